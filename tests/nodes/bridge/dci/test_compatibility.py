"""DCI among ComfyUI's nodes: each works or is refused with the reason, and the documentation says the same."""

from __future__ import annotations

import os

import pytest
import torch
from dci_compatibility import cases, page
from dci_rig import PROMPT, apply_dci, assert_close, encode, without_mixing
from tiny_model import tiny_models

import comfyui_personalize
from comfyui_personalize.core.errors import InputError

PAGE = "docs/dci_compatibility.md"
CASES = cases()
# Kin of others that every run samples: these are for the sweep.
SWEPT = {"RescaleCFG", "CFG-Zero*", "CFGNorm", "TCFG", "FreSca", "Epsilon Scaling", "PerpNeg (deprecated)", "FreeU",
         "HyperTile", "Token merging", "attention multiply", "LazyCache", "Set Area with Percentage",
         "Set Area Strength", "Set Mask with bounds"}


@pytest.fixture(scope="module")
def graphs():
    """MODEL, positive, negative and CLIP: with DCI, with DCI that does not mix, plain."""
    plain, clip = tiny_models()[:2]
    model, positive = apply_dci(plain, clip)
    rest = encode(clip, ""), clip
    return {"dci": (model, positive, *rest), "unmixed": (without_mixing(model), positive, *rest),
            "plain": (plain, encode(clip, PROMPT), *rest)}


@pytest.mark.parametrize("case", [
    pytest.param(case, id=case.node, marks=pytest.mark.full if case.node in SWEPT else ()) for case in CASES])
def test_node_works_or_is_refused_with_the_reason(graphs, case):
    def sample(name):
        torch.manual_seed(0)
        with torch.inference_mode():
            return case.sample(*graphs[name])

    if case.refused:
        with pytest.raises(InputError, match=case.refused):
            sample("dci")
        return
    dci, plain = sample("dci"), sample("plain")
    assert dci.isfinite().all() and (dci - plain).abs().max() > 0.01 * plain.std()
    if case.exact:
        assert_close(sample("unmixed"), plain, 2e-3)


def test_the_page_says_what_the_cases_say():
    path = next(iter(comfyui_personalize.__path__)) + "/" + PAGE
    if os.environ.get("WRITE_DOCS"):
        with open(path, "w", encoding="utf-8") as file:
            file.write(page(CASES))
    with open(path, encoding="utf-8") as file:
        assert file.read() == page(CASES), "WRITE_DOCS=1 pytest tests/nodes/bridge/dci/test_compatibility.py"

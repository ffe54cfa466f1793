"""docs/family_options.md says what the code does: written and compared here (WRITE_DOCS=1 writes it)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from families import FAMILIES, family_models

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.nodes.bridge.dci.mixing_sites import mixing_sites, warnings_about
from comfyui_personalize.nodes.bridge.model.denoiser import schedule_of
from comfyui_personalize.nodes.bridge.model.families import FAMILIES as KNOWN
from comfyui_personalize.nodes.bridge.model.families import check_targets, family_of
from comfyui_personalize.nodes.bridge.text.trainable_encoders import check_trainable
from comfyui_personalize.nodes.bridge.text.vocabulary import vocabularies_of

DOCS = Path(__file__).parents[4] / "docs" / "family_options.md"
NAMES = {rig: name for family in KNOWN for rig, name in family.rigs.items()}
HEADER = """# Families of models: which options work

Written by `WRITE_DOCS=1 pytest tests/nodes/bridge/model/test_families_table.py` from what the code answers, for the
families whose checkpoints the tests load by ComfyUI's own loader with their real tokenizers
(`tests/nodes/bridge/model/test_families_*.py`). Every family that learns stands in [families.md](families.md).

| family | predicts | latent channels | LoRA also read by diffusers | K and V of cross-attention alone \
| text encoder trains | identifier picked for | DCI |
|---|---|---|---|---|---|---|---|
"""
FOOTER = """
- **Joint attention** (SD3, Flux): image and text share one projection to Q, K and V, so that the target
  `cross_attention_kv` is refused; `attention` takes both streams, and in Flux' single blocks the fused layers that also
  hold the feed-forward part.
- **Guidance** (Flux dev): trained at 3.5, ComfyUI's own value where no FluxGuidance node says another.
- **SD3 in diffusers**: its file has the network's own fused names, which diffusers does not split; ComfyUI reads it.
- **Text encoder**: CLIP, T5 and language models train in fp16, bf16 or fp32, whole on one device; in 8 bits they stay
  frozen.
- **Identifier with T5**: one made-up word of three tokens or fewer in every encoder; CLIP and T5 share none of one.
"""


def row(name: str, model: Any, clip: Any) -> str:
    family = family_of(model)
    cells = [NAMES[name], schedule_of(model).prediction.replace("_", " "),
             str(model.get_model_object("latent_format").latent_channels), _yes(family.is_read_by_diffusers),
             _yes(_passes(check_targets, model, "cross_attention_kv")), _yes(_passes(check_trainable, clip)),
             ", ".join(sorted(vocabulary.name for vocabulary in vocabularies_of(clip))),
             ("experimental" if warnings_about(model) else "yes") if _passes(mixing_sites, model) else "no"]
    return f"| {' | '.join(cells)} |"


def _yes(fact: bool) -> str:
    return "yes" if fact else "no"


def _passes(check: Any, *arguments: Any) -> bool:
    try:
        check(*arguments)
    except InputError:
        return False
    return True


def test_the_table_of_families_is_what_the_code_does():
    rows = [row(name, *family_models(name)[:2]) for name in FAMILIES]
    text = HEADER + "\n".join(rows) + "\n" + FOOTER
    if os.environ.get("WRITE_DOCS"):
        DOCS.write_text(text, encoding="utf-8")
    assert DOCS.read_text(encoding="utf-8") == text, "run it with WRITE_DOCS=1"


def test_every_network_that_tests_train_is_named_by_the_record_of_its_family():
    assert NAMES.keys() == FAMILIES.keys()
    assert all(name in family_of(family_models(name)[0]).rigs for name in NAMES)

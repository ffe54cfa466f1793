"""The page of families is made of the figures alone, and says failures as plainly as successes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from comfyui_personalize.benchmarks.every_family.page import VERIFIED, cell, found, page
from comfyui_personalize.benchmarks.every_family.server.figures import wrong
from comfyui_personalize.benchmarks.every_family.verdict import KEYS, NotThere, failures, is_refused, reason

DOCS = Path(__file__).parents[2] / "docs"
GOOD: dict[str, Any] = {
    "name": "A", "prediction_error": 1e-7, "mixed_text_error": 2e-6, "gradient_error": 1e-4, "lora_keys": "8/8",
    "lora_error": 1e-7, "loss_ratio": 0.8, "resume_exact": True, "restored": True, "dci": "works",
    "identifier": "works"}


def test_the_documents_agree_and_have_the_keys_that_programs_expect():
    records = json.loads((DOCS / "families.json").read_text(encoding="utf-8"))
    text = (DOCS / "families.md").read_text(encoding="utf-8")
    version = re.search(r"in ComfyUI (\S+)'s list", text)
    assert version is not None and page(records, version[1]) == text
    for record in records:
        assert tuple(record) in [(*KEYS, *more) for more in ((), ("why",), ("server",), ("why", "server"))]
        assert ("why" in record) == (None in record.values())


JOURNEY: dict[str, Any] = {
    "loaders": ["UNETLoader", "VAELoader"], "said": {"num_heads": 2}, "identifier": "scn", "class_images": 2,
    "previews": 2, "losses": [2.0, 3.0, 2.0, 1.0], "lora_keys": "6/6", "change": 0.1, "picture_error": 0.0,
    "same_pixels": True, "preview_error": 0, "restored": True}


def test_what_went_through_the_server_stands_in_a_table_of_its_own():
    failed = {"fails": "PersonalizeTrainer: RuntimeError: no"}
    text = page([GOOD, GOOD | {"server": JOURNEY}, GOOD | {"name": "B", "server": failed}], "1.2.3")
    assert "**1 of 2 families** went through" in text
    assert ("| A | UNETLoader, VAELoader | scn | 2 | 2 | 2.00 → 1.00 | 6/6 | 0e+00 | yes | 0 | yes | num_heads 2 |"
            in text)
    assert "| B | **PersonalizeTrainer: RuntimeError: no** |" in text
    assert "Through the server" not in page([GOOD], "1.2.3")


@pytest.mark.parametrize(("key", "value"), [
    ("class_images", 1), ("previews", 0), ("losses", [1.0, float("nan"), 1.0, 1.0]), ("losses", [1.0]),
    ("lora_keys", "5/6"), ("lora_keys", "0/0"), ("change", 0.0), ("picture_error", 1e-4), ("same_pixels", False),
    ("preview_error", 2), ("restored", False)])
def test_one_bad_figure_of_the_server_is_named(key, value):
    assert wrong(JOURNEY) == [] and wrong(JOURNEY | {key: value}) == [key]
    assert "**" in page([GOOD | {"server": JOURNEY | {key: value}}], "1").split("## Through the server")[1].split(
        "| A |")[1 if key != "change" else 0]


def test_a_family_is_verified_where_every_figure_of_learning_is_good():
    assert found(GOOD) == VERIFIED
    assert found(GOOD | {"dci": "refused: model: got X", "identifier": None, "why": "identifier: none"}) == VERIFIED
    assert found(GOOD | {"mixed_text_error": None, "why": "mixed_text_error: of one length"}) == VERIFIED


@pytest.mark.parametrize(("key", "value"), [
    ("prediction_error", 1.1e-5), ("mixed_text_error", 0.3), ("gradient_error", 0.03), ("lora_keys", "7/8"),
    ("lora_keys", "0/0"), ("lora_error", 1.0), ("loss_ratio", 1.0), ("resume_exact", False), ("restored", False),
    ("prediction_error", float("nan"))])
def test_one_bad_figure_is_named(key, value):
    record = GOOD | {key: value}
    assert failures(record) == [key] and found(record) == f"**not right**: {key}"
    assert cell(key, value).startswith("**")


def test_a_crash_is_a_failure_of_its_figures_and_a_refusal_is_none():
    crashed = GOOD | {"lora_error": None, "loss_ratio": None, "why": "lora_error, loss_ratio: fails with KeyError: x"}
    assert failures(crashed) == ["lora_error", "loss_ratio"]
    refused = dict.fromkeys(KEYS) | {"name": "B", "why": "training: refused: model: got an edit model"}
    assert is_refused(refused) and found(refused) == "refused" and not is_refused(crashed)
    text = page([GOOD, crashed, refused], "1.2.3")
    assert "**1 of 3 are verified**, 1 refused with the reason, 1 not right." in text
    assert "- B: training: refused: model: got an edit model" in text
    assert "- A: lora_error, loss_ratio: fails with KeyError: x" in text


def test_a_reason_says_what_happened_and_where():
    try:
        raise NotThere("gone")
    except NotThere as error:
        assert re.fullmatch(r"fails with NotThere: gone \(benchmarks/test_every_family.py:\d+\)", reason(error))

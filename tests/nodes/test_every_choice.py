"""Every value of every combo of the nodes that a run is made of trains; other nodes' combos have their own tests.

A part of `make test-full`; the list itself is checked in every run.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from comfy_api.v0_0_2 import io
from tiny_model import tiny_models
from trainer_rig import photos, subjects, train, use_store

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.store.class_images import ClassImages
from comfyui_personalize.core.training.optimizer import PACKAGES
from comfyui_personalize.nodes import NODES

pytestmark = pytest.mark.usefixtures("inference_mode")
BY_NAME = {node.define_schema().node_id: node for node in NODES}
OPTIONAL = ("package bitsandbytes", "package prodigyopt", "pip install")
"""What the error says where a choice needs a package that may be missing."""


def defaults(node: type[io.ComfyNode]) -> dict[str, Any]:
    """Every widget's default."""
    return {entry.id: entry.default for entry in node.define_schema().inputs
            if getattr(entry, "default", None) is not None}


def output(node: str, **changes: Any) -> Any:
    """The first output of a node at its defaults but for some inputs."""
    made = BY_NAME[node].PREPARE_CLASS_CLONE(None).execute(**defaults(BY_NAME[node]) | changes)
    return made.result[0]


def class_images() -> tuple[ClassImages, ...]:
    latents = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(4))
    return (ClassImages(class_noun="dog", prompt="a dog", latents=latents, key="dog", size=64),)


def weighted(**changes: Any) -> dict[str, Any]:
    return {"objective": output("PersonalizeLossWeighting", **changes)}


def preview(**changes: Any) -> dict[str, Any]:
    return {"preview": output("PersonalizeTrainingPreview", steps=2, **changes)}


INPUTS: dict[str, Callable[..., dict[str, Any]]] = {
    "PersonalizeLearnedContexts": lambda **changes: {"objective": output("PersonalizeLearnedContexts", **changes)},
    "PersonalizeLossWeighting": weighted,
    "MaskedLoss": lambda **changes: {"objective": output("MaskedLoss", **changes)},
    "PersonalizeMethodPreset": lambda **changes: preset(**changes),
    "PersonalizePriorPreservation": lambda source="base model", **changes: {"objective": output(
        "PersonalizePriorPreservation", source=source, prior=None if source == "base model" else class_images(),
        **changes)},
    "PersonalizeTokenVectors": lambda **changes: {"token_vectors": output("PersonalizeTokenVectors", **changes)},
    "PersonalizeTrainingOptions": lambda **changes: {"options": options(**changes)},
    "PersonalizeTrainingPreview": preview,
}
"""How a node's choice gets into the trainer."""

ELSEWHERE = {
    "PersonalizeAuxiliaryNounPicker": "test_auxiliary_noun_picker.py", "PersonalizeDCIMasks": "test_dci_masks.py",
    "PersonalizeCheckpointGrid": "test_checkpoint_grid.py",  # its own lists runs; the others are ComfyUI's
    "PersonalizeDCIOptions": "test_dci_options.py", "PersonalizeDataOptions": "test_trainer_data.py",
    "PersonalizeEvaluate": "test_evaluate_personalization.py",
    "PersonalizeSuperResolution": "test_super_resolution.py",
    "PersonalizeFromPhotos": "test_personalize_from_photos.py",
    "PersonalizePhotosFromFolder": "test_photos_from_folder.py",  # its combo lists folders
    "PriorSampleGen": "test_prior_sample_gen.py",
    "PersonalizeRegularizationImages": "test_regularization_images.py",
    "PersonalizeSubjectPrompts": "test_subject_prompts.py", "PersonalizeValidation": "test_validation.py",
    "PersonalizeLoad": "test_personalizations.py",  # its combo lists files
}
"""Where the choices of the other nodes are run."""


def options(**changes: Any) -> Any:
    """Training options in which the choice can act at all."""
    acts = {"lr_schedule": {}, "text_encoder_kind": {"text_encoder_rate": 1e-4}}
    name = next(iter(changes))
    if changes.get("lr_schedule") == "constant_with_warmup":
        changes["warmup_steps"] = 1
    return output("PersonalizeTrainingOptions", rank=4, alpha=4.0, **acts.get(name, {}) | changes)


def preset(**changes: Any) -> dict[str, Any]:
    """A preset's options; Textual Inversion brings its token vectors along."""
    chosen = output("PersonalizeMethodPreset", **changes)
    words = {} if chosen.trains_denoiser else {"token_vectors": output("PersonalizeTokenVectors")}
    return {"options": chosen, **words}


def combos(node: type[io.ComfyNode]) -> Iterator[tuple[str, Any]]:
    """Name and value of every choice of a node."""
    for entry in node.define_schema().inputs:
        if isinstance(entry, io.Combo.Input):
            yield from ((entry.id, value) for value in entry.options or ())


def choices() -> list[Any]:
    return [pytest.param(node, name, value, id=f"{node}-{name}-{value}")
            for node in INPUTS for name, value in combos(BY_NAME[node])]


def test_every_node_with_a_choice_is_swept_here_or_in_a_test_of_its_own():
    with_choices = {name for name, node in BY_NAME.items()
                    if any(isinstance(entry, io.Combo.Input) for entry in node.define_schema().inputs)}
    assert with_choices == INPUTS.keys() | ELSEWHERE.keys()
    assert set(ELSEWHERE.values()) <= {path.name for path in Path(__file__).parent.rglob("test_*.py")}


def test_the_optional_packages_are_installed_where_these_tests_run():
    """Elsewhere their own tests have nothing to say."""
    assert [package for package in PACKAGES.values() if importlib.util.find_spec(package) is None] == []


@pytest.mark.full
@pytest.mark.parametrize(("node", "name", "value"), choices())
def test_every_choice_trains(node, name, value, tmp_path, monkeypatch):
    use_store(tmp_path, monkeypatch)
    mine = subjects(photos=photos(2, masked=True))
    try:
        _, _, _, losses, pictures, *_ = train(tiny_models(), subject=mine, steps=2, **INPUTS[node](**{name: value}))
    except InputError as refusal:
        assert any(hint in str(refusal) for hint in OPTIONAL), refusal
        pytest.skip(str(refusal))
    assert len(losses["loss"]) == 2 and all(map(math.isfinite, losses["loss"])) and bool(pictures.isfinite().all())

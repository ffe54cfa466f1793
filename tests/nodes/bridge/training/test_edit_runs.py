"""Runs that learn an edit or an inpainting, through the trainer: learned from what they are shown, resumed exactly."""

from __future__ import annotations

import pytest
import torch
from families import family_models
from tiny_model import tiny_models
from trainer_rig import equal, photos, subjects, train, use_store

from comfyui_personalize.benchmarks.every_family.cases import CASES
from comfyui_personalize.benchmarks.every_family.networks import build_model
from comfyui_personalize.core.data.options import DataOptions
from comfyui_personalize.core.objectives import BasePrior
from comfyui_personalize.core.training.config import TrainingOptions
from comfyui_personalize.nodes.bridge.photos.photos import with_references
from comfyui_personalize.nodes.bridge.sockets import ObjectiveChain, PreviewSettings

pytestmark = pytest.mark.usefixtures("inference_mode", "store")
PREVIEW = PreviewSettings(prompt="a sks dog", steps=1, cfg=1.0, every=1)


def edits():
    """Two photos with a reference each, of two sizes."""
    shown = [torch.rand(1, 40 + 24 * number, 56, 3, generator=torch.Generator().manual_seed(number))
             for number in range(2)]
    return subjects(photos=with_references(photos(2), shown))


def test_flux_learns_an_edit_and_goes_on_exactly_with_previews_and_prior(tmp_path, monkeypatch):
    models = family_models("flux")
    given = {"subject": edits(), "batch": 2, "options": TrainingOptions(save_every=0),
             "objective": ObjectiveChain(objectives=(BasePrior(),))}
    train(models, steps=1, preview=PREVIEW, **given)
    parts = train(models, steps=2, preview=PREVIEW, **given)
    use_store(tmp_path / "whole", monkeypatch)
    whole = train(models, steps=2, **given)
    plain = train(models, steps=2, **given | {"subject": subjects(photos=photos(2))})
    assert equal(whole[2], parts[2]) and whole[3] == parts[3]
    assert not equal(whole[2], plain[2]) and whole[3]["loss"][0] != plain[3]["loss"][0]
    assert "reference images: up to 1 with each photo\n" in whole[6] and "reference images" not in plain[6]
    assert "resumed from step 1" in parts[6] and "resumed" not in whole[6]
    assert bool(parts[4].isfinite().all())


def small(name):
    """MODEL of a case with a CLIP and a VAE of its sizes."""
    return (build_model(CASES[name]), *tiny_models()[1:])


def test_an_inpainting_model_learns_what_the_masks_mark_where_that_is_asked_for():
    models, own = small("sd15_inpainting"), photos(2, masked=True)
    plain = train(models, subject=subjects(photos=own), steps=1)
    asked = train(models, subject=subjects(photos=own, data=DataOptions(inpaint_masks=True)), steps=1, preview=PREVIEW)
    assert plain[3]["loss"] != asked[3]["loss"]
    assert "inpainting model: trained with a full mask, as it is sampled without one" in plain[6]
    assert "inpainting model: 2 of 2 photos with their own masks" in asked[6]
    assert "no objective uses them" in plain[6] and "no objective uses them" not in asked[6]


@pytest.mark.full
def test_an_edit_model_with_channels_of_its_own_learns_from_one_reference_for_each_photo():
    report = train(small("sd15_edit"), subject=edits(), steps=1, preview=PREVIEW)[6]
    assert "trained 1 steps" in report and "reference images: up to 1 with each photo" in report

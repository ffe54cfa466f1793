"""What a run needs to know is found out once, before a model is loaded, and handed on."""

from __future__ import annotations

import sys
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from test_super_resolution import personalize
from tiny_model import tiny_models
from tiny_upscaler import upscaler_models
from trainer_rig import photos, subjects, train

from comfyui_personalize.core.data.options import DataOptions
from comfyui_personalize.core.objectives import BasePrior, MaskedLoss, PriorPreservation
from comfyui_personalize.core.objectives.learned_contexts import LearnedContexts
from comfyui_personalize.core.store.class_images import ClassImages
from comfyui_personalize.core.subject import subject as subject_module
from comfyui_personalize.nodes.bridge.model import hashes
from comfyui_personalize.nodes.bridge.photos import latents
from comfyui_personalize.nodes.bridge.sockets import ObjectiveChain, PreviewSettings
from comfyui_personalize.nodes.bridge.training import key, what_trains
from comfyui_personalize.nodes.bridge.training import request as training_request
from comfyui_personalize.nodes.bridge.training.checks import pixels_per_latent

pytestmark = pytest.mark.usefixtures("inference_mode", "store")


class Calls:
    """Counts calls of functions by their first argument, wherever they were imported to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.patch, self.counts, self.kept = monkeypatch, Counter(), []

    def count(self, owner, name: str) -> None:
        original = getattr(owner, name)

        def counted(first, *others, **named):
            self.kept.append(first)  # so that no other object gets its id
            self.counts[name, id(first)] += 1
            return original(first, *others, **named)

        holders = [module for name_of, module in list(sys.modules.items()) if name_of.startswith("comfyui_personalize")
                   and vars(module).get(name) is original]
        for holder in holders or [owner]:
            self.patch.setattr(holder, name, counted)

    def of(self, name: str, *firsts) -> list[int]:
        """How often a function was called with each of these, or with whatever it was called with."""
        given = [id(first) for first in firsts] or [first for called, first in self.counts if called == name]
        return [self.counts[name, first] for first in given]


def test_a_run_of_three_steps_derives_everything_once(monkeypatch):
    models, calls = tiny_models(), Calls(monkeypatch)
    subject = subjects(photos=photos(2, masked=True), data=DataOptions(views=2, flip=True))
    pool = ClassImages(class_noun="dog", prompt="a dog", key="pool", size=64, latents=torch.randn(2, 4, 8, 8))
    objectives = (PriorPreservation(), MaskedLoss(), BasePrior(), LearnedContexts())
    for owner, name in ((training_request, "training_data"), (latents, "make_examples"), (latents, "crop_mask"),
                        (latents, "data_hash"), (hashes, "model_hash"), (key, "key_of"),
                        (subject_module, "float_bytes"), (what_trains, "check_what_trains"),
                        (BasePrior, "prepare"), (LearnedContexts, "prepare")):
        calls.count(owner, name)
    train(models, subject=subject, objective=ObjectiveChain(objectives=objectives, class_images=(pool,)),
          preview=PreviewSettings(prompt="a sks dog", steps=1, every=1))
    for name in ("training_data", "make_examples", "data_hash", "key_of", "check_what_trains"):
        assert calls.of(name) == [1], name
    assert calls.of("crop_mask") == [8]  # the mask that both photos have, in four views of each
    assert calls.of("model_hash", models[0], models[1].patcher, models[2].patcher) == [1, 1, 1]
    assert calls.of("prepare") == [1] * 2  # by objective: both are called once
    # Two digests of each photo: its own, and that of its pixels alone, under which its latents are kept.
    assert calls.of("float_bytes", *(photo.pixels for photo in subject[0].photos)) == [2, 2]


def test_the_upscaler_s_run_hashes_its_models_and_photos_once(monkeypatch):
    models, calls = upscaler_models(), Calls(monkeypatch)
    for owner, name in ((hashes, "model_hash"), (latents, "data_hash"), (key, "key_of")):
        calls.count(owner, name)
    personalize(models)
    assert calls.of("model_hash", models[0], models[1].patcher, models[2].patcher) == [1, 1, 1]
    assert calls.of("data_hash") == calls.of("key_of") == [1]


@pytest.mark.parametrize(("ratio", "expected"), [(8, 8), (16, 16), ((lambda frames: frames // 4, 32, 32), 32)])
def test_a_vae_says_its_pixels_per_latent_as_a_number_or_by_time_height_and_width(ratio, expected):
    assert pixels_per_latent(SimpleNamespace(downscale_ratio=ratio)) == expected

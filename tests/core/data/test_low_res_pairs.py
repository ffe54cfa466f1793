"""Pairs of a photo and its small version, cut into windows, and the noise of the small one."""

from __future__ import annotations

import pytest
import torch

from comfyui_personalize.core.data.batch import Rows, stack
from comfyui_personalize.core.data.examples import Example, TrainingData, generator_for
from comfyui_personalize.core.data.low_res_pairs import cut, low_res, window_starts
from comfyui_personalize.core.data.noise import NoiseSource
from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.model.schedule import NoiseSchedule
from comfyui_personalize.core.objectives.super_resolution import SuperResolution
from comfyui_personalize.core.training.config import TrainingConfig


def test_the_small_photo_has_a_quarter_of_the_sides_and_minus_one_is_black():
    photo = torch.zeros(16, 24, 3)
    photo[:, 12:] = 1
    small = low_res(photo)
    assert small.shape == (3, 4, 6)
    assert torch.allclose(small[:, :, 0], torch.tensor(-1.0), atol=0.02)
    assert torch.allclose(small[:, :, -1], torch.tensor(1.0), atol=0.02)


@pytest.mark.parametrize(("side", "window", "starts"), [(8, 8, [0]), (16, 8, [0, 4, 8]), (15, 8, [0, 4, 7])])
def test_windows_cover_the_side_and_end_with_it(side, window, starts):
    assert window_starts(side, window) == starts


def test_latents_and_small_photo_are_cut_at_the_same_places_the_middle_first():
    places = torch.arange(16 * 16).float().view(1, 16, 16)
    views = cut(places.expand(4, -1, -1), places.expand(3, -1, -1), 8)
    assert len(views) == 9 and views[0].latents[0, 0, 0] == 4 * 16 + 4
    assert all(torch.equal(view.latents[0], view.concat[0]) for view in views)


def test_augmentation_keeps_unit_variance_and_adds_the_variance_it_says():
    clean = torch.randn(1, 3, 200, 200, generator=torch.Generator().manual_seed(0))
    noisy = SuperResolution(variance=0.04).augment_concat(clean, torch.Generator().manual_seed(1))
    assert noisy.var() == pytest.approx(1, abs=0.02)
    assert (noisy - 0.96**0.5 * clean).var() == pytest.approx(0.04, rel=0.02)
    assert torch.equal(SuperResolution(variance=0.0).augment_concat(clean, torch.Generator()), clean)


def test_only_this_objective_changes_the_small_photo_and_draws_repeat():
    schedule = NoiseSchedule.variance_preserving("v_prediction", torch.linspace(0.1, 10, 20), torch.arange(20))
    clean = torch.zeros(2, 3, 4, 4)
    assert torch.equal(NoiseSource(schedule).concat(clean, generator_for(0, "concat", 0)), clean)
    source = NoiseSource(schedule, (SuperResolution(variance=1e-3),))
    first, again, other = (source.concat(clean, generator_for(0, "concat", step)) for step in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_rows_keep_their_small_photos_when_stacked_and_taken_one_by_one():
    rows = Rows(latents=torch.zeros(2, 4, 8, 8), noise=torch.zeros(2, 4, 8, 8), index=torch.zeros(2, dtype=torch.long),
                prompts=("a", "b"), concat=torch.arange(2.0).view(2, 1, 1, 1).expand(2, 3, 8, 8))
    assert stack([rows, rows]).concat[:, 0, 0, 0].tolist() == [0, 1, 0, 1]
    assert rows.first().concat.shape == (1, 3, 8, 8) and rows.to(torch.device("cpu")).concat is not None


def test_data_without_small_photos_are_refused():
    example = Example(latents=torch.zeros(4, 8, 8), caption="a sks dog", object_caption="a sks dog", class_noun="dog")
    with pytest.raises(InputError, match="Train it with an upscaler model"):
        SuperResolution().check(TrainingData(examples=(example,)))


@pytest.mark.parametrize(("fields", "message"), [
    ({"variance": 1.0}, "variance: got 1.0"), ({"level": -1}, "level: got -1"), ({"crop": 100}, "Use 96"),
])
def test_settings_that_make_no_pairs_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        SuperResolution(**fields)


def test_the_settings_survive_metadata():
    config = TrainingConfig(steps=2, objectives=(SuperResolution(variance=1e-3, level=8, crop=64),))
    assert TrainingConfig.from_dict(config.to_dict()) == config

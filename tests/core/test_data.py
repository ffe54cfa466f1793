"""Draws are shuffled, complete, and the same wherever a run is resumed."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from tiny_unet import photos, schedule, training_data

from comfyui_personalize.core.data import (
    TrainingData,
    draw_class_images,
    draw_examples,
    draw_subject_rows,
    exposure,
    generator_for,
)
from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.noise_source import NoiseSource
from comfyui_personalize.core.schedule import NoiseSchedule

SOURCE = NoiseSource(schedule())
FOUR_LEVELS = NoiseSource(NoiseSchedule.rectified_flow(torch.linspace(0.25, 1, 4), torch.arange(4)))
TWO_SUBJECTS = (*photos(3, "dog"), *photos(2, "cat"))


def test_generators_are_functions_of_seed_stream_and_counter():
    draws = {torch.randn(1, generator=generator_for(seed, stream, counter)).item()
             for seed in (0, 1) for stream in ("a", "b") for counter in (0, 1)}
    assert len(draws) == 8
    assert torch.equal(torch.randn(3, generator=generator_for(0, "a", 1)),
                       torch.randn(3, generator=generator_for(0, "a", 1)))


def test_every_photo_is_seen_once_per_epoch_in_a_new_order():
    data = training_data(photos(6))
    epochs = [
        sum((draw_examples(data, 0, step, 2) for step in range(first, first + 3)), ()) for first in (0, 3, 6)
    ]
    assert all(sorted(epoch) == list(range(6)) for epoch in epochs)
    assert len(set(epochs)) > 1


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_every_class_image_is_used_once_per_epoch_of_its_own_pool(batch):
    data = training_data(TWO_SUBJECTS, class_images=7)
    seen: dict[str, list[int]] = {"dog": [], "cat": []}
    for step in range(60):
        for example, image in zip(
            draw_examples(data, 0, step, batch), draw_class_images(data, 0, step, batch), strict=True
        ):
            seen[data.examples[example].class_noun].append(image)
    for images in seen.values():
        for start in range(0, len(images) - 7, 7):
            assert sorted(images[start:start + 7]) == list(range(7))


@pytest.mark.parametrize(("micro_steps", "batch"), [(0, 1), (1, 1), (7, 3), (10, 2), (33, 1)])
def test_exposure_counts_what_was_drawn(micro_steps, batch):
    data = training_data(TWO_SUBJECTS, class_images=4)
    photos_seen: Counter[int] = Counter()
    images_seen: Counter[tuple[str, int]] = Counter()
    for step in range(micro_steps):
        examples = draw_examples(data, 5, step, batch)
        photos_seen.update(examples)
        nouns = [data.examples[example].class_noun for example in examples]
        images_seen.update(zip(nouns, draw_class_images(data, 5, step, batch), strict=True))
    report = exposure(data, 5, micro_steps, batch)
    assert report.photos == tuple(photos_seen[number] for number in range(5))
    assert report.class_images == {noun: tuple(images_seen[noun, image] for image in range(4))
                                   for noun in ("dog", "cat")}


def test_the_exposure_report_is_a_sentence():
    report = exposure(training_data(photos(2, "dog"), class_images=3), 0, 5, 1)
    assert str(report) == "photos: each of 2 seen 2 to 3 times; 'dog' class images: each of 3 seen 1 to 2 times"


def test_no_class_images_are_drawn_without_pools():
    data = TrainingData(examples=photos())
    assert draw_class_images(data, 0, 0, 2) is None
    assert exposure(data, 0, 3, 1).class_images == {}


def test_subject_rows_have_shapes_levels_and_masks():
    rows = draw_subject_rows(training_data(photos(mask=torch.ones(1, 8, 8))), SOURCE, 0, 0, 2)
    assert rows.latents.shape == rows.noise.shape == (2, 4, 8, 8) and rows.masks.shape == (2, 1, 8, 8)
    assert rows.index.shape == (2,) and 0 <= rows.index.min() and rows.index.max() < 1000
    mixed = (*photos(1), *photos(1, mask=torch.ones(1, 8, 8)))
    assert draw_subject_rows(training_data(mixed), SOURCE, 0, 0, 2).masks is None


def test_every_noise_level_can_be_drawn():
    drawn = {int(draw_subject_rows(training_data(), FOUR_LEVELS, 0, step, 1).index) for step in range(60)}
    assert drawn == {0, 1, 2, 3}


def test_prompts_are_each_text_once():
    assert training_data(TWO_SUBJECTS).prompts()[:2] == ("a photo of a sks dog", "a sks dog")
    assert sorted(training_data(TWO_SUBJECTS).prompts()[2:]) == ["a cat", "a dog"]


def broken(example, value):
    return replace(example, latents=torch.full_like(example.latents, value))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrainingData(examples=()), "no photo"),
        (
            lambda: TrainingData(examples=(*photos(1), replace(photos(1)[0], latents=torch.zeros(4, 4, 4)))),
            "one size",
        ),
        (lambda: TrainingData(examples=(broken(photos(1)[0], float("nan")),)), "NaN"),
        (
            lambda: TrainingData(examples=photos(1), class_latents={"dog": torch.zeros(1, 4, 4, 4)}),
            "training resolution",
        ),
        (
            lambda: TrainingData(examples=photos(1), class_latents={"dog": torch.zeros(1, 4, 8, 8)}),
            "no prompt for 'dog'",
        ),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()

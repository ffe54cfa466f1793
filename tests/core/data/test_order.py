"""Draws are shuffled, complete, and the same wherever a run is resumed."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from tiny_unet import TinyDenoiser, photos, same_bits, schedule, trainer, training_config, training_data

from comfyui_personalize.core.data.examples import Masks, ObjectName, TrainingData, View, generator_for
from comfyui_personalize.core.data.noise import NoiseSource
from comfyui_personalize.core.data.order import (
    draw,
    draw_class_images,
    draw_examples,
    draw_subject_rows,
    exposure,
    find_buckets,
)
from comfyui_personalize.core.model.schedule import NoiseSchedule
from comfyui_personalize.core.objectives import PriorPreservation

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
    assert str(report) == "Each of your 2 photos was used 2 to 3 times, each of 3 dog class images 1 to 2 times"


def test_no_class_images_are_drawn_without_pools():
    data = TrainingData(examples=photos())
    assert draw_class_images(data, 0, 0, 2) == ()
    assert exposure(data, 0, 3, 1).class_images == {}


def test_subject_rows_have_shapes_levels_and_masks():
    rows = draw_subject_rows(training_data(photos(mask=torch.ones(1, 8, 8))), SOURCE, 0, 0, 2)
    assert rows.latents.shape == rows.noise.shape == (2, 4, 8, 8) and rows.masks[0].shape == (2, 1, 8, 8)
    assert rows.index.shape == (2,) and rows.index.min() >= 0 and rows.index.max() < 1000
    mixed = (*photos(1), *photos(1, mask=torch.ones(1, 8, 8)))
    assert draw_subject_rows(training_data(mixed), SOURCE, 0, 0, 2).masks == {}


def test_every_noise_level_can_be_drawn():
    drawn = {int(draw_subject_rows(training_data(), FOUR_LEVELS, 0, step, 1).index) for step in range(60)}
    assert drawn == {0, 1, 2, 3}


def of_shape(count, height, width, **changes):
    """Photos of another shape, with latents of their own."""
    return tuple(replace(example, latents=torch.randn(4, height, width, generator=generator_for(height, "p", number)),
                         **changes) for number, example in enumerate(photos(count)))


def mirrored(example, views=2):
    """An example whose further views are its latents times 2, 3 and so on."""
    return replace(example, more_views=tuple(View(latents=example.latents * number) for number in range(2, views + 1)))


THREE_SHAPES = (*photos(3), *of_shape(2, 4, 16), *of_shape(1, 16, 4))


# The order of one bucket


def test_one_shape_without_options_is_drawn_as_a_permutation_per_epoch():
    data, drawn = training_data(photos(4)), []
    for step in range(6):
        drawn += draw_examples(data, 3, step, 3)
    expected = [number for epoch in range(5)
                for number in torch.randperm(4, generator=generator_for(3, "photos", epoch)).tolist()]
    assert drawn == expected[:18]


def test_noise_and_levels_do_not_depend_on_views_repeats_or_captions():
    plain, data = photos(2), training_data(photos(2))
    changed = TrainingData(examples=tuple(replace(mirrored(one), caption_dropout=0.5) for one in plain))
    first, second = (draw_subject_rows(which, SOURCE, 0, 5, 2) for which in (data, changed))
    assert torch.equal(first.noise, second.noise) and torch.equal(first.index, second.index)


# Buckets, repeats, views


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_batch_is_of_one_shape_and_every_photo_is_seen_equally_often(batch):
    data = training_data(THREE_SHAPES)
    for step in range(12):
        assert len({data.examples[number].latents.shape for number in draw_examples(data, 1, step, batch)}) == 1
        draw_subject_rows(data, SOURCE, 1, step, batch)  # stacks
    assert len(find_buckets(data)) == 3
    assert exposure(data, 1, 12, batch).photos == (2 * batch,) * 6


def test_the_order_of_buckets_is_shuffled():
    data = training_data(THREE_SHAPES)
    orders = {tuple(data.examples[draw_examples(data, seed, step, 1)[0]].latents.shape[1] for step in range(6))
              for seed in range(4)}
    assert len(orders) > 1


def test_repeats_show_a_photo_so_often_in_every_epoch():
    first, second = photos(2)
    data = training_data((replace(first, repeats=3), second))
    for epoch in range(3):
        seen = Counter(number for step in range(4 * epoch, 4 * epoch + 4) for number in draw_examples(data, 0, step, 1))
        assert seen == {0: 3, 1: 1}
    assert exposure(data, 0, 12, 1).photos == (9, 3)


def test_every_view_is_shown_once_before_any_is_shown_again():
    data = training_data(tuple(mirrored(example, 3) for example in photos(2)))
    shown = {0: [], 1: []}
    for step in range(12):
        rows = draw_subject_rows(data, SOURCE, 0, step, 1)
        shown[rows.examples[0]].append(rows.views[0])
        view = data.examples[rows.examples[0]].views[rows.views[0]]
        assert torch.equal(rows.latents[0], view.latents)
    for views in shown.values():
        assert sorted(views[:3]) == sorted(views[3:]) == [0, 1, 2]


def test_the_exposure_report_names_the_views():
    data = training_data(tuple(mirrored(example, 3) for example in photos(2)), class_images=3)
    assert str(exposure(data, 0, 4, 1)).startswith("Each of your 2 photos was used 2 times, in 3 views, each of ")


def test_masks_follow_their_views():
    example, other = photos(1, mask=torch.ones(1, 8, 8))[0], torch.rand(1, 8, 8)
    data = TrainingData(examples=(replace(example, more_views=(View(latents=example.latents, mask=other),)),))
    masks = {draw_subject_rows(data, SOURCE, 0, step, 1).masks[0].sum().item() for step in range(4)}
    assert masks == {64.0, other.sum().item()}


def test_masks_are_drawn_as_grown_as_every_view_of_the_batch_has_them():
    plain, grown = torch.zeros(1, 8, 8), torch.ones(1, 8, 8)
    both = photos(2, mask=plain)
    some = (replace(both[0], grown={4: Masks(grown), 8: Masks(grown)}), replace(both[1], grown={4: Masks(grown)}))
    rows = draw_subject_rows(training_data(some), SOURCE, 0, 0, 2).to(torch.device("cpu"))
    assert rows.masks.keys() == {0, 4} and not rows.masks[0].any() and bool(rows.masks[4].all())


@pytest.mark.parametrize("micro_steps", [0, 1, 5, 11, 24])
@pytest.mark.parametrize("batch", [1, 2])
def test_exposure_counts_what_was_drawn_with_buckets_repeats_and_several_nouns(micro_steps, batch):
    words = tuple(ObjectName(identifier=noun, class_noun=noun, caption=noun) for noun in ("dog", "cat"))
    both = replace(photos(1)[0], objects=words, object_masks=torch.ones(2, 8, 8))
    examples = (both, replace(photos(1)[0], repeats=2), *of_shape(2, 4, 16, class_noun="cat"))
    pools = {"dog": torch.zeros(3, 4, 8, 8), "cat": torch.zeros(2, 4, 8, 8)}
    data = TrainingData(examples=examples, class_latents=pools, class_prompts={"dog": "a dog", "cat": "a cat"})
    seen, images = Counter(), Counter()
    for step in range(micro_steps):
        rows = draw_subject_rows(data, SOURCE, 2, step, batch)
        seen.update(rows.examples)
        images.update(zip(rows.class_nouns, rows.class_images, strict=True))
    report = exposure(data, 2, micro_steps, batch)
    assert report.photos == tuple(seen[number] for number in range(4))
    assert report.class_images == {noun: tuple(images[noun, image] for image in range(len(pool)))
                                   for noun, pool in pools.items()}


def test_a_photo_of_several_objects_takes_their_nouns_in_turn():
    words = tuple(ObjectName(identifier=noun, class_noun=noun, caption=noun) for noun in ("dog", "cat", "car"))
    example = replace(photos(1)[0], objects=words, object_masks=torch.ones(3, 8, 8))
    data = TrainingData(examples=(example,))
    assert [draw(data, 0, step, 1)[0].class_noun for step in range(4)] == ["dog", "cat", "car", "dog"]


def test_captions_are_dropped_as_often_as_asked():
    data = TrainingData(examples=tuple(replace(one, caption_dropout=0.25) for one in photos(2)))
    prompts = [prompt for step in range(400) for prompt in draw_subject_rows(data, FOUR_LEVELS, 0, step, 2).prompts]
    assert set(prompts) == {"", "a photo of a sks dog"}
    assert prompts.count("") / 800 == pytest.approx(0.25, abs=0.04)
    assert "" in data.prompts()


def test_a_killed_run_with_every_data_option_ends_with_the_same_bits():
    plain = (*photos(1), *of_shape(2, 4, 16))
    examples = tuple(replace(mirrored(one), repeats=2, caption_dropout=0.5) for one in plain)
    data, config = training_data(examples), training_config(steps=5, objectives=[PriorPreservation()])

    def end(state=None, stop_after=None):
        with trainer(config, data) as run:
            if state:
                run.load_state(*state)
            for step in run.steps():
                if step.step == stop_after:
                    break
            return run.state()

    whole, resumed = end(), end(end(stop_after=2))
    assert same_bits(whole[0], resumed[0]) and whole[1] == resumed[1]


def test_class_images_of_another_shape_have_a_forward_of_their_own():
    config = training_config(steps=1, batch=2, objectives=[PriorPreservation()], gradient_checkpointing="auto")
    denoiser = TinyDenoiser()
    with trainer(config, training_data(of_shape(2, 4, 16)), denoiser, free_bytes=10**12) as run:
        denoiser.rows.clear()
        list(run.steps())
        assert denoiser.rows == [2, 2]

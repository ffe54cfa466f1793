"""Class images on disk: named by everything they depend on, whole or absent, continued and shared."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.store.class_images import (
    PriorCache,
    PriorRecipe,
    check_noun_is_new,
    class_images,
    count_to_sample,
)

RECIPE = PriorRecipe(
    model="m",
    text_encoder="t",
    prompt="a dog",
    size=64,
    sampler="euler_ancestral",
    scheduler="normal",
    steps=20,
    cfg=7.0,
    seed=0,
)


class Sampler:
    """Image i is filled with i; remembers what it was asked, and may fail at an index."""

    def __init__(self, fail_at=None):
        self.calls, self.fail_at = [], fail_at

    def __call__(self, indices):
        if self.fail_at in indices:
            raise KeyboardInterrupt
        self.calls.append(list(indices))
        return torch.stack([torch.full((4, 8, 8), float(index)) for index in indices])


@pytest.fixture
def cache(tmp_path):
    return PriorCache(tmp_path / "images")


def pool(cache, sampler, count=5, batch=2, recipe=RECIPE):
    return class_images(cache, replace(recipe, batch=batch), class_noun="dog", count=count, sample=sampler)


class RoundingSampler(Sampler):
    """As a network's, its images depend a little on the batch that they are made in."""

    def __call__(self, indices):
        rounding = torch.tensor([1e-5 * len(indices) + 1e-6 * place for place in range(len(indices))])
        return super().__call__(indices) + rounding[:, None, None, None]


def stop_at_save(monkeypatch, number):
    """End the process' work, as a kill does, in place of the save with this number (from 0)."""
    original, calls = PriorCache.save, []

    def save(self, *arguments):
        calls.append(1)
        if len(calls) == number + 1:
            raise KeyboardInterrupt
        original(self, *arguments)

    monkeypatch.setattr(PriorCache, "save", save)


def test_all_images_in_order_in_batches(cache):
    sampler = Sampler()
    images = pool(cache, sampler)
    assert sampler.calls == [[0, 1], [2, 3], [4, 5]]
    assert images.latents.shape == (5, 4, 8, 8) and images.latents.dtype == torch.float32
    assert images.latents[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert (images.class_noun, images.prompt, images.size) == ("dog", "a dog", 64)


def test_nothing_is_sampled_twice_and_more_keeps_what_is_there(cache):
    pool(cache, Sampler())
    again, more = Sampler(), Sampler()
    assert pool(cache, again).latents.shape[0] == 5 and again.calls == []
    assert pool(cache, more, count=8).latents[:, 0, 0, 0].tolist() == list(range(8)) and more.calls == [[6, 7]]


def test_an_interrupted_generation_keeps_its_batches_and_continues(cache):
    with pytest.raises(KeyboardInterrupt):
        pool(cache, Sampler(fail_at=3))
    sampler = Sampler()
    assert pool(cache, sampler).latents[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert sampler.calls == [[2, 3], [4, 5]]


@pytest.mark.parametrize("number", range(9))
def test_a_kill_between_two_saves_of_one_batch_changes_no_bit(cache, tmp_path, monkeypatch, number):
    whole = pool(PriorCache(tmp_path / "whole"), RoundingSampler(), count=8, batch=3).latents
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at_save(patch, number)
        pool(cache, RoundingSampler(), count=8, batch=3)
    sampler = RoundingSampler()
    assert torch.equal(pool(cache, sampler, count=8, batch=3).latents, whole)
    assert sampler.calls == ([[0, 1, 2], [3, 4, 5], [6, 7, 8]][number // 3:] if number < 8 else [])


@pytest.mark.parametrize("first", [3, 4, 5, 7])
def test_asking_for_more_images_later_changes_no_bit(cache, tmp_path, first):
    whole = pool(PriorCache(tmp_path / "whole"), RoundingSampler(), count=8, batch=3).latents
    pool(cache, RoundingSampler(), count=first, batch=3)
    assert torch.equal(pool(cache, RoundingSampler(), count=8, batch=3).latents, whole)


def test_a_broken_file_is_made_again_to_the_same_bits(cache):
    whole = pool(cache, RoundingSampler(), count=8, batch=3).latents
    next(cache.root.rglob("00004.safetensors")).write_bytes(b"half a fi")
    assert torch.equal(pool(cache, RoundingSampler(), count=8, batch=3).latents, whole)


def test_another_batch_is_another_pool(cache):
    two, three = (pool(cache, RoundingSampler(), batch=batch) for batch in (2, 3))
    assert two.key != three.key and not torch.equal(two.latents, three.latents)
    assert torch.equal(pool(cache, RoundingSampler(), batch=2).latents, two.latents)


def old_pool(cache, count):
    """What a version that did not keep the batch left: one image after the other under the recipe without it."""
    for index in range(count):
        cache.save(RECIPE, index, torch.full((4, 8, 8), float(index)))


@pytest.mark.parametrize("batch", [1, 4])
def test_a_pool_of_a_version_that_did_not_keep_the_batch_is_used_under_its_key(cache, batch):
    old_pool(cache, 5)
    sampler = Sampler()
    images = pool(cache, sampler, batch=batch)
    assert images.key == f"{RECIPE.key}-5" and sampler.calls == []
    assert images.latents[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]


def test_such_a_pool_is_continued_under_its_key_and_keeps_what_it_has(cache):
    old_pool(cache, 3)
    sampler = RoundingSampler()
    images = pool(cache, sampler, count=5, batch=2)
    assert images.key == f"{RECIPE.key}-5" and sampler.calls == [[2, 3], [4, 5]]
    assert images.latents[:3, 0, 0, 0].tolist() == [0, 1, 2]


def test_images_that_are_the_same_in_any_batch_are_sampled_alone(cache):
    sampler = Sampler()
    images = pool(cache, sampler, count=3, batch=None)
    assert sampler.calls == [[0], [1], [2]] and images.key == f"{RECIPE.key}-3"


@pytest.mark.parametrize(("kept", "count", "expected"), [(0, 5, 6), (3, 5, 4), (4, 5, 2), (5, 5, 0), (5, 8, 4)])
def test_what_is_still_to_be_sampled_is_told_beforehand(cache, kept, count, expected):
    recipe = replace(RECIPE, batch=2)
    for index in range(kept):
        cache.save(recipe, index, torch.zeros(4, 8, 8))
    assert count_to_sample(cache, recipe, count) == expected


def test_a_broken_or_foreign_file_is_made_again(cache):
    pool(cache, Sampler())
    files = sorted(cache.root.rglob("*.safetensors"))
    files[1].write_bytes(files[1].read_bytes()[:100])
    files[3].write_bytes(b"PK\x03\x04 a pickle")
    sampler = Sampler()
    assert pool(cache, sampler).latents[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert sampler.calls == [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    "change",
    [
        {"model": "n"},
        {"text_encoder": "u"},
        {"prompt": "a cat"},
        {"size": 72},
        {"sampler": "euler"},
        {"scheduler": "karras"},
        {"steps": 21},
        {"cfg": 7.5},
        {"seed": 1},
    ],
)
def test_everything_in_the_recipe_names_the_folder(cache, change):
    other = replace(RECIPE, **change)
    assert other.key != RECIPE.key
    pool(cache, Sampler())
    sampler = Sampler()
    pool(cache, sampler, recipe=other)
    assert sampler.calls and (cache.root / replace(other, batch=2).key / "recipe.json").exists()


def test_the_batch_names_the_folder_and_without_it_the_name_is_that_of_earlier_versions():
    assert len({RECIPE.key, replace(RECIPE, batch=1).key, replace(RECIPE, batch=2).key}) == 3
    assert RECIPE.key == "b591899626ee25e44780bbf43632c2d2f7659b65"


def test_the_pool_s_key_holds_the_count(cache):
    assert pool(cache, Sampler(), count=2).key != pool(cache, Sampler(), count=3).key


def test_a_full_disk_ends_nothing_is_told_and_leaves_no_half_file(cache, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    pool(cache, Sampler(), count=2)
    monkeypatch.setattr("os.replace", full)
    made = pool(cache, Sampler())
    monkeypatch.undo()
    assert made.unsaved.startswith("No space left on device at ")
    assert len(list(cache.root.rglob("*"))) == 1 + 1 + 2  # folder, recipe, two images
    again = pool(cache, Sampler())
    assert not again.unsaved and again.key == made.key and torch.equal(again.latents, made.latents)


def test_broken_latents_are_refused_and_not_kept(cache):
    with pytest.raises(InputError, match="model: got NaN in class image 0"):
        pool(cache, lambda indices: torch.full((len(indices), 4, 8, 8), float("nan")))
    assert not list(cache.root.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps: got 0"),
        ({"size": 63}, "size: got 63, expected 64 pixels or more"),
        ({"size": 100}, "Use 96."),
        ({"batch": 0}, "batch: got 0, expected 1 or more images at a time"),
    ],
)
def test_an_impossible_recipe_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        replace(RECIPE, **changes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 0}, "count: got 0"),
        ({"count": 1_000_000}, "count: got 1000000"),
    ],
)
def test_impossible_numbers_are_refused(cache, settings, message):
    with pytest.raises(InputError, match=message):
        pool(cache, Sampler(), **settings)


@pytest.mark.parametrize("noun", ["dog", " DOG", "Dog "])
def test_one_pool_per_noun(cache, noun):
    dogs = (pool(cache, Sampler()),)
    check_noun_is_new(dogs, "cat")
    with pytest.raises(InputError, match="twice in one chain, expected another noun"):
        check_noun_is_new(dogs, noun)


def test_a_whole_file_of_another_shape_is_refused_by_its_name(cache):
    pool(cache, Sampler())
    path = cache.root / replace(RECIPE, batch=2).key / "00001.safetensors"
    cache.save(replace(RECIPE, batch=2), 1, torch.zeros(0, 8, 8))
    with pytest.raises(InputError, match=r"00001\.safetensors: shape \(0, 8, 8\), expected \(4, 8, 8\).*Remove"):
        pool(cache, Sampler())
    path.unlink()
    assert pool(cache, Sampler()).latents.shape == (5, 4, 8, 8)

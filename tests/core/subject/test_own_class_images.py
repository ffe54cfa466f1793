"""A pool of given class images: its captions, its key, and how a step draws from it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_unet import photos, schedule, training_data

from comfyui_personalize.core.data.examples import generator_for
from comfyui_personalize.core.data.noise import NoiseSource
from comfyui_personalize.core.data.order import draw_subject_rows
from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.objectives import PriorPreservation
from comfyui_personalize.core.subject.own_class_images import own_class_images

SOURCE = NoiseSource(schedule())
LATENTS = [torch.full((4, 8, 8), float(number)) for number in range(3)]
DIGESTS = ["a", "b", "c"]


def pool(captions=(None, None, None), latents=LATENTS, digests=DIGESTS, **changes):
    return own_class_images(latents, digests, captions, **{"class_noun": "dog", "size": 64, "vae": "v"} | changes)


def test_images_without_captions_share_the_class_prompt():
    found = pool()
    assert (found.class_noun, found.prompt, found.size, found.captions) == ("dog", "a dog", 64, ())
    assert torch.equal(found.latents, torch.stack(LATENTS)) and found.latents.dtype == torch.float32


def test_captions_are_filled_and_missing_ones_are_the_class_prompt():
    assert pool(("a {noun} asleep", None, "a {V} {noun}, wet")).captions == ("a dog asleep", "a dog", "a dog, wet")
    assert pool(("a {noun}", None, "a dog")).captions == ()


def test_the_key_depends_on_all_that_trains_and_on_nothing_else():
    keys = [found.key for found in (
        pool(), pool(digests=["a", "b", "x"]), pool(("a {noun} asleep", None, None)), pool(class_noun="cat"),
        pool(size=72), pool(vae="w"))]
    assert len(set(keys)) == len(keys) and pool().key == keys[0]


def test_no_image_is_refused():
    with pytest.raises(InputError, match="images: got no picture, expected 1 or more pictures of the class"):
        pool((), latents=[], digests=[])


def test_every_prior_row_stands_under_its_own_images_caption():
    data = training_data(photos(3))
    count = len(data.class_latents["dog"])
    captions = tuple(f"a dog number {number}" for number in range(count))
    data = replace(data, class_captions={"dog": captions})
    subject = draw_subject_rows(data, SOURCE, 0, 0, 4)
    prior = PriorPreservation().extra_rows(subject, data, SOURCE, generator_for(0, "prior", 0))
    assert prior.prompts == tuple(captions[image] for image in subject.class_images)
    assert set(captions) <= set(data.prompts()) and "a dog" in data.prompts()


def test_another_number_of_captions_than_of_images_is_refused():
    with pytest.raises(InputError, match="class images: got 1 captions for .* images of 'dog', expected one for each"):
        replace(training_data(photos(2)), class_captions={"dog": ("a dog",)})

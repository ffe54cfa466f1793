"""Data that cannot be trained on is refused; what it may say is listed once."""

from dataclasses import replace

import pytest
import torch
from tiny_unet import photos, training_data

from comfyui_personalize.core.data.examples import ObjectName, TrainingData, View
from comfyui_personalize.core.errors import InputError

TWO_SUBJECTS = (*photos(3, "dog"), *photos(2, "cat"))
TWO_OBJECTS = tuple(ObjectName(identifier=word, class_noun=noun, caption=f"a {word} {noun}")
                    for word, noun in (("sks", "dog"), ("tqz", "cat")))


def changed(**changes):
    return replace(photos(1)[0], **changes)


def test_prompts_are_each_text_once():
    assert training_data(TWO_SUBJECTS).prompts()[:2] == ("a photo of a sks dog", "a sks dog")
    assert sorted(training_data(TWO_SUBJECTS).prompts()[2:]) == ["a cat", "a dog"]


def test_the_prompts_of_several_objects_are_among_the_prompts():
    data = TrainingData(examples=(changed(objects=TWO_OBJECTS, object_masks=torch.ones(2, 8, 8)),))
    assert {"a sks dog", "a tqz cat"} < set(data.prompts()) and data.nouns == ("cat", "dog")


def test_the_first_view_is_the_examples_own():
    example = changed(mask=torch.ones(1, 8, 8), more_views=(View(latents=torch.zeros(4, 8, 8)),))
    assert len(example.views) == 2
    assert example.views[0].latents is example.latents and example.views[0].mask is example.mask


def test_the_same_data_about_other_latents_keeps_masks_and_words():
    mask, other = torch.ones(1, 8, 8), View(latents=torch.zeros(4, 8, 8), mask=torch.zeros(1, 8, 8))
    data = TrainingData(examples=(changed(mask=mask, more_views=(other,)),))
    views = [torch.full((4, 8, 8), value) for value in (1.0, 2.0)]
    (example,) = data.with_latents([views]).examples
    assert [view.latents for view in example.views] == views
    assert [view.mask for view in example.views] == [mask, other.mask] and example.caption == data.examples[0].caption


@pytest.mark.parametrize("shapes", [[(4, 4, 8)], [(4, 8, 8), (4, 8, 4)]])
def test_latents_that_the_masks_were_not_made_for_are_refused(shapes):
    with pytest.raises(InputError, match=r"vae: got latents of .*expected latents of \(4, 8, 8\)"):
        photos(1)[0].with_latents([torch.zeros(shape) for shape in shapes])


@pytest.mark.parametrize(("make", "message"), [
    (lambda: TrainingData(examples=()), "no photo"),
    (lambda: TrainingData(examples=(*photos(1), changed(latents=torch.zeros(3, 8, 8)))), "one VAE"),
    (lambda: TrainingData(examples=(changed(more_views=(View(latents=torch.zeros(4, 4, 16)),)),)), "one size"),
    (lambda: TrainingData(examples=(changed(latents=torch.full((4, 8, 8), float("nan"))),)), "NaN"),
    (lambda: TrainingData(examples=(changed(repeats=0),)), "repeats: got 0"),
    (lambda: TrainingData(examples=(changed(objects=TWO_OBJECTS),)), "0 masks for 2 objects"),
    (lambda: TrainingData(examples=(changed(objects=TWO_OBJECTS, object_masks=torch.ones(1, 8, 8)),)), "1 masks for 2"),
    (lambda: TrainingData(examples=photos(1), class_latents={"dog": torch.zeros(1, 4, 4, 4)}), "training resolution"),
    (lambda: TrainingData(examples=photos(1), class_latents={"dog": torch.zeros(1, 3, 8, 8)}), "training resolution"),
    (lambda: TrainingData(examples=photos(1), class_latents={"dog": torch.zeros(1, 4, 8, 8)}), "no prompt for 'dog'"),
])
def test_data_that_cannot_be_trained_on_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()

"""Captions name their subjects; scenes name all their objects."""

import pytest
import torch

from comfyui_personalize.core.data.options import DataOptions
from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.subject.subject import (
    Photo,
    SceneObject,
    Subject,
    fill,
    make_scene,
    warnings_about_data,
    without_identifiers,
)

PIXELS = torch.rand(16, 16, 3, generator=torch.Generator().manual_seed(0))


def stripe(start, end):
    mask = torch.zeros(16, 16)
    mask[:, start:end] = 1
    return mask


def objects(count=2, **changes):
    words = (("sks", "dog"), ("tqz", "cat"), ("wrs", "toy car"))
    return [SceneObject(identifier=word, class_noun=noun, mask=stripe(4 * number, 4 * number + 4), **changes)
            for number, (word, noun) in enumerate(words[:count])]


def subject(*captions, **changes):
    photos = tuple(Photo(pixels=PIXELS, caption=caption) for caption in captions or (None,))
    return Subject(**{"identifier": "sks", "class_noun": "dog", "photos": photos} | changes)


def test_a_photos_own_caption_comes_before_the_template():
    chosen = subject("{V} {noun} on a sofa", None, "photo of sks dog")
    assert [chosen.caption_of(photo) for photo in chosen.photos] == [
        "sks dog on a sofa", "a sks dog", "photo of sks dog"]


@pytest.mark.parametrize("caption", ["a dog on a sofa", "a sksy dog"])
def test_a_caption_without_the_identifier_is_refused(caption):
    with pytest.raises(InputError, match="captions: got .* for photo 2, without 'sks'.*Write {V}"):
        subject("a {V} dog", caption)


@pytest.mark.parametrize("caption", ["Sks dog on a beach", "SKS dog", "photo of a “sks”.", "a (Sks:1.2) dog",
                                     "x,sks's"])
def test_a_caption_may_write_the_identifier_in_capitals_and_beside_any_punctuation(caption):
    chosen = subject(caption)
    assert chosen.caption_of(chosen.photos[0]) == caption


@pytest.mark.parametrize(("template", "expected"), [
    ("a photo of {V}.", "a photo of embedding:zkz ."), ("{V}'s {noun}", "embedding:zkz 's dog"),
    ('"{V}"', '" embedding:zkz "'), ("x,{V},y", "x, embedding:zkz ,y"), ("{V}, {noun}", "embedding:zkz, dog"),
    ("({V}:1.2) {noun}", "(embedding:zkz:1.2) dog"), ("({V})", "(embedding:zkz)"),
    (r"\({V}\)", r"\( embedding:zkz \)"), ("{V}: red", "embedding:zkz : red"),
    ("a {V} {noun}", "a embedding:zkz dog"), ("{V}{V}", "embedding:zkz embedding:zkz")])
def test_a_learned_identifier_stands_where_stock_nodes_find_its_name(template, expected):
    assert fill(template, "embedding:zkz", "dog") == expected
    plain = " ".join(template.replace("{V}", "zkz").replace("{noun}", "dog").split())
    assert fill(template, "zkz", "dog") == plain


@pytest.mark.parametrize(("count", "caption"), [
    (1, "a sks dog"), (2, "a sks dog and a tqz cat"), (3, "a sks dog, a tqz cat and a wrs toy car")])
def test_the_global_prompt_names_every_object(count, caption):
    scene = make_scene(PIXELS, objects(count))
    assert scene.caption == scene.caption_of(scene.photos[0]) == caption
    assert scene.names == (("sks", "dog"), ("tqz", "cat"), ("wrs", "toy car"))[:count]
    assert make_scene(PIXELS, objects(count), "{objects} in the snow").caption == f"{caption} in the snow"


def test_a_scenes_mask_is_all_its_objects():
    (photo,) = make_scene(PIXELS, objects()).photos
    assert torch.equal(photo.mask, stripe(0, 8)) and len(photo.object_masks) == 2


@pytest.mark.parametrize(("make", "message"), [
    (lambda: make_scene(PIXELS, []), "objects: got 0 objects, expected 1 to 8"),
    (lambda: make_scene(PIXELS, objects() * 5), "objects: got 10 objects"),
    (lambda: make_scene(PIXELS, objects(1) * 2), "identifier: got 'sks' for two objects"),
    (lambda: make_scene(PIXELS, [*objects(1), SceneObject(identifier="SKS", class_noun="cat", mask=stripe(8, 16))]),
     "identifier: got 'sks' and 'SKS' for two objects"),
    (lambda: SceneObject(identifier="sks", class_noun="embedding:", mask=PIXELS), "class_noun: got 'embedding:'"),
    (lambda: make_scene(PIXELS, objects(), "a sks dog"), "without 'tqz'.*Write {objects}"),
    (lambda: make_scene(PIXELS[:8], objects()), "a mask of 16 x 16 for a photo of 16 x 8"),
    (lambda: SceneObject(identifier=" ", class_noun="dog", mask=PIXELS), "identifier: got an empty text"),
])
def test_scenes_that_cannot_be_learned_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_flip_that_contradicts_a_caption_is_warned_about():
    flipped = subject("{V} {noun} looking left", data=DataOptions(flip=True))
    (warning,) = warnings_about_data(flipped)
    assert "sks dog looking left" in warning
    assert warnings_about_data(subject("{V} {noun} looking left")) == []
    assert warnings_about_data(subject("{V} {noun}, leftovers", data=DataOptions(flip=True))) == []


@pytest.mark.parametrize(("caption", "expected"), [
    ("a sks dog on a beach", "a dog on a beach"), ("a photo of sks", "a photo of dog"), ("SKS  Dog", "dog"),
    ("(sks dog:1.2), sksy", "(dog:1.2), sksy"), ("sks dogs", "dog dogs"), ("a dog", "a dog")])
def test_without_its_identifier_a_caption_names_the_class(caption, expected):
    assert without_identifiers(caption, [("sks", "dog")]) == expected


def test_every_subject_of_a_scene_becomes_its_own_class():
    words = [("sks", "dog"), ("sks two", "cat"), ("embedding:x", "toy car")]
    assert without_identifiers("a sks dog, a sks two cat and embedding:x toy car", words) == (
        "a dog, a cat and toy car")
    assert without_identifiers("sks cat", words) == "dog cat"

"""Photos become latents once, masks follow their photos."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tiny_model import tiny_models
from trainer_rig import photos, subjects

from comfyui_personalize.core.data.crops import centred_crop
from comfyui_personalize.core.data.examples import TrainingData
from comfyui_personalize.core.data.options import DataOptions
from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.subject.subject import Photo, SceneObject, Subject, make_scene
from comfyui_personalize.nodes.bridge.photos.latents import (
    blank_latents,
    crop_mask,
    crop_pixels,
    data_hash,
    encode_photos,
    encode_views,
    make_examples,
    photo_crops,
    square_pixels,
)

pytestmark = pytest.mark.usefixtures("inference_mode")


def test_a_photo_of_the_right_size_is_not_changed():
    pixels = torch.rand(64, 64, 3)
    assert torch.allclose(square_pixels(pixels, 64), pixels, atol=1e-6)


@pytest.mark.parametrize("shape", [(8, 8), (100, 37), (1500, 2000)])
def test_any_size_becomes_a_square_in_range(shape):
    square = square_pixels(torch.rand(*shape, 3), 64)
    assert square.shape == (64, 64, 3) and square.min() >= 0 and square.max() <= 1


def test_a_flat_colour_stays_that_colour():
    assert torch.allclose(square_pixels(torch.full((90, 50, 3), 0.3), 64), torch.tensor(0.3), atol=1e-5)


def test_a_mask_is_cropped_as_its_photo():
    pixels = torch.zeros(60, 100, 3)
    pixels[10:30, 40:60] = 1
    mask = crop_mask(pixels[..., 0], centred_crop(60, 100, (32, 32)))
    assert torch.allclose(mask, square_pixels(pixels, 32)[..., 0], atol=0.2)
    assert torch.equal(mask.round(), square_pixels(pixels, 32)[..., 0].round())


def with_options(**options) -> tuple[Subject, ...]:
    return subjects(photos=photos(masked=True), data=DataOptions(**options))


EVERY_VIEW = {"shape": "buckets", "flip": True, "views": 3}


def test_masks_follow_every_crop_and_flip():
    mask = torch.zeros(72, 96)
    mask[20:50, 10:40] = 1
    photo = Photo(pixels=mask[..., None].expand(72, 96, 3).clone(), mask=mask)
    crops = photo_crops(photo, 64, DataOptions(flip=True, views=4, jitter=0.3))
    assert len(set(crops)) == 8
    for crop in crops:
        pixels, cut = crop_pixels(photo.pixels, crop)[..., 0], crop_mask(mask, crop)
        assert pixels.shape == cut.shape == (64, 64)
        assert (pixels - cut).abs().mean() < 0.02  # bicubic against bilinear at the edges


def test_a_flipped_view_is_the_mirror_image():
    photo = photos()[0]
    crops = photo_crops(photo, 64, DataOptions(flip=True))
    assert torch.equal(crop_pixels(photo.pixels, crops[1]), crop_pixels(photo.pixels, crops[0]).flip(1))


def test_a_second_run_on_the_same_photos_calls_no_vae(tmp_path):
    vae = tiny_models()[2]
    first = encode_views(vae, with_options(**EVERY_VIEW), 64, tmp_path, "vae")
    assert [len(views) for views in first] == [6, 6] and first[0][0].shape == (4, 7, 9)
    idle = SimpleNamespace(encode=lambda _: pytest.fail("encoded again"), vae_dtype=vae.vae_dtype, device=vae.device)
    second = encode_views(idle, with_options(**EVERY_VIEW), 64, tmp_path, "vae")
    assert all(torch.equal(one, other) for mine, theirs in zip(first, second, strict=True)
               for one, other in zip(mine, theirs, strict=True))
    fewer = encode_views(idle, with_options(**EVERY_VIEW | {"views": 2}), 64, tmp_path, "vae")
    assert torch.equal(fewer[0][1], first[0][1])  # jitter is a function of the photo and the view's number
    other_type = SimpleNamespace(**vars(idle) | {"vae_dtype": torch.bfloat16})
    for changed, size, name, reader in (
            (subjects(photos=photos(seed=2)), 64, "vae", idle), (with_options(**EVERY_VIEW), 32, "vae", idle),
            (with_options(**EVERY_VIEW), 64, "other", idle), (with_options(**EVERY_VIEW), 64, "vae", other_type),
            (with_options(**EVERY_VIEW | {"jitter": 0.2}), 64, "vae", idle)):
        with pytest.raises(pytest.fail.Exception):
            encode_views(reader, changed, size, tmp_path, name)


def test_squares_of_all_photos_are_one_tensor(tmp_path):
    vae = tiny_models()[2]
    views = encode_views(vae, subjects(), 64, tmp_path, "vae")
    assert torch.equal(encode_photos(vae, subjects(), 64, tmp_path, "vae"), torch.stack([one for one, in views]))


def test_nan_latents_are_refused_with_a_way_out(tmp_path):
    vae = SimpleNamespace(encode=lambda pixels: torch.full((1, 4, 8, 8), float("nan")))
    with pytest.raises(InputError, match="vae: got NaN latents.*fp32-vae"):
        encode_views(vae, subjects(), 64, tmp_path, "vae")


def scene() -> Subject:
    left, right = torch.zeros(72, 96), torch.zeros(72, 96)
    left[10:60, 15:45], right[10:60, 50:80] = 1, 1
    return make_scene(photos()[0].pixels, [SceneObject(identifier="sks", class_noun="dog", mask=left),
                                           SceneObject(identifier="tqz", class_noun="cat", mask=right)])


def test_the_data_hash_sees_pixels_masks_words_and_options():
    captioned = (Photo(pixels=photos()[0].pixels, caption="{V} at home"), photos()[1])
    swapped = make_scene(scene().photos[0].pixels, [
        SceneObject(identifier=word, class_noun=noun, mask=mask)
        for word, noun, mask in zip(("sks", "tqz"), ("dog", "cat"), scene().photos[0].object_masks[::-1], strict=True)])
    variants = [subjects(), subjects(photos=photos(seed=1)), subjects(photos=photos(masked=True)),
                subjects(identifier="ohwx"), subjects(class_noun="cat"), subjects(caption_template="{V} {noun}"),
                subjects() * 2, subjects(data=DataOptions(flip=True)), subjects(data=DataOptions(views=2)),
                subjects(data=DataOptions(views=2, jitter=0.2)), subjects(data=DataOptions(shape="buckets")),
                subjects(data=DataOptions(repeats=2)), subjects(data=DataOptions(caption_dropout=0.1)),
                subjects(photos=captioned), (scene(),), (swapped,)]
    assert len({data_hash(variant) for variant in variants}) == len(variants)
    assert data_hash(subjects()) == data_hash(subjects())


def examples_of(chosen, dilations=(), size=64):
    model, latents = tiny_models()[0], blank_latents(chosen, size, 4, 8)
    return make_examples(model, chosen, [[row + 1 for row in views] for views in latents], size, dilations)


def test_examples_are_in_the_models_latent_space_with_masks_at_latent_size():
    examples = examples_of(with_options())
    assert all(torch.allclose(example.latents, torch.tensor(0.18215)) for example in examples)
    assert all(example.mask is not None and example.mask.shape == (1, 8, 8) for example in examples)
    assert examples[0].caption == "a sks dog" and [example.photo for example in examples] == [0, 1]


def test_masks_are_grown_for_every_objective_by_its_own_pixels_and_the_plain_one_stays():
    plain, grown = examples_of(with_options())[0], examples_of(with_options(), dilations=(4, 8))[0]
    assert torch.equal(grown.mask, plain.mask) and plain.grown == {}
    areas = [float(grown.views[0].masks[dilation].whole.sum()) for dilation in (0, 4, 8)]
    assert areas[0] < areas[1] < areas[2]
    several = examples_of([scene()], dilations=(4,), size=96)[0].grown[4]
    assert several.objects.shape == (2, 12, 12) and torch.allclose(several.whole[0], several.objects.amax(0), atol=0.3)


def test_data_options_reach_the_examples():
    examples = examples_of(with_options(**EVERY_VIEW, repeats=3, caption_dropout=0.25))
    for example in examples:
        assert len(example.views) == 6 and example.repeats == 3 and example.caption_dropout == 0.25
        assert example.latents.shape == (4, 7, 9)  # 72 x 96 pixels as 56 x 72
        for view in example.views:
            assert view.mask.shape == (1, 7, 9) and view.latents.shape == example.latents.shape
        assert torch.equal(example.views[3].mask, example.views[0].mask.flip(2))
    TrainingData(examples=examples)


def test_captions_of_single_photos_reach_their_examples():
    captioned = (Photo(pixels=photos()[0].pixels, caption="{V} {noun} at home"), photos()[1])
    examples = examples_of(subjects(photos=captioned))
    assert [(example.caption, example.has_own_caption) for example in examples] == [
        ("sks dog at home", True), ("a sks dog", False)]


def test_objects_of_a_scene_keep_their_masks_and_words():
    (example,) = examples_of((scene(),), size=96)
    assert example.caption == "a sks dog and a tqz cat"
    assert [words.caption for words in example.objects] == ["a sks dog", "a tqz cat"]
    assert example.object_masks.shape == (2, 12, 12)
    left, right = example.object_masks
    assert left[:, :6].sum() > 10 * left[:, 6:].sum() and right[:, 6:].sum() > 10 * right[:, :6].sum()
    assert torch.allclose(example.mask[0], (left + right).clamp(max=1), atol=0.05)


def test_several_subjects_keep_their_own_words():
    cat = Subject(identifier="ohwx", class_noun="cat", photos=(Photo(pixels=torch.rand(64, 64, 3)),))
    examples = examples_of((*subjects(), cat))
    assert [example.class_noun for example in examples] == ["dog", "dog", "cat"]
    assert examples[2].caption == "a ohwx cat"

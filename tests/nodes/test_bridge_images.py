"""Photos become latents once, masks follow their photos."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tiny_model import tiny_models
from trainer_rig import photos, subjects

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.subject import Photo, Subject
from comfyui_personalize.nodes.bridge.images import (
    center_square,
    data_hash,
    encode_photos,
    make_examples,
    square_mask,
    square_pixels,
)

pytestmark = pytest.mark.usefixtures("inference_mode")


def test_the_centre_of_either_shape_is_kept():
    wide = torch.arange(12.0).reshape(2, 6)
    assert center_square(wide).tolist() == [[2, 3], [8, 9]]
    assert torch.equal(center_square(wide.T), center_square(wide).T)


def test_a_photo_of_the_right_size_is_not_changed():
    pixels = torch.rand(64, 64, 3)
    assert torch.allclose(square_pixels(pixels, 64), pixels, atol=1e-6)


@pytest.mark.parametrize("shape", [(8, 8), (100, 37), (1500, 2000)])
def test_any_size_becomes_a_square_in_range(shape):
    square = square_pixels(torch.rand(*shape, 3), 64)
    assert square.shape == (64, 64, 3) and 0 <= square.min() and square.max() <= 1


def test_a_flat_colour_stays_that_colour():
    assert torch.allclose(square_pixels(torch.full((90, 50, 3), 0.3), 64), torch.tensor(0.3), atol=1e-5)


def test_a_mask_is_cropped_as_its_photo():
    pixels = torch.zeros(60, 100, 3)
    pixels[10:30, 40:60] = 1
    mask = square_mask(pixels[..., 0], 32)
    assert torch.allclose(mask, square_pixels(pixels, 32)[..., 0], atol=0.2)
    assert torch.equal(mask.round(), square_pixels(pixels, 32)[..., 0].round())


def test_a_second_run_on_the_same_photos_calls_no_vae(tmp_path):
    vae = tiny_models()[2]
    first = encode_photos(vae, subjects(), 64, tmp_path, "vae")
    idle = SimpleNamespace(encode=lambda _: pytest.fail("encoded again"))
    assert torch.equal(first, encode_photos(idle, subjects(), 64, tmp_path, "vae"))
    for changed in ((subjects(photos=photos(seed=2)), 64, "vae"), (subjects(), 32, "vae"), (subjects(), 64, "other")):
        with pytest.raises(pytest.fail.Exception):
            encode_photos(idle, changed[0], changed[1], tmp_path, changed[2])


def test_nan_latents_are_refused_with_a_way_out(tmp_path):
    vae = SimpleNamespace(encode=lambda pixels: torch.full((1, 4, 8, 8), float("nan")))
    with pytest.raises(InputError, match="vae: got NaN latents.*fp32-vae"):
        encode_photos(vae, subjects(), 64, tmp_path, "vae")


def test_the_data_hash_sees_pixels_masks_and_words():
    variants = [subjects(), subjects(photos=photos(seed=1)), subjects(photos=photos(masked=True)),
                subjects(identifier="ohwx"), subjects(class_noun="cat"), subjects(caption_template="{V} {noun}"),
                subjects() * 2]
    assert len({data_hash(variant) for variant in variants}) == len(variants)
    assert data_hash(subjects()) == data_hash(subjects())


def test_examples_are_in_the_models_latent_space_with_masks_at_latent_size():
    model = tiny_models()[0]
    raw = torch.randn(2, 4, 8, 8)
    examples = make_examples(model, subjects(photos=photos(masked=True)), raw, 64)
    assert torch.allclose(torch.stack([example.latents for example in examples]), raw * 0.18215)
    assert all(example.mask is not None and example.mask.shape == (1, 8, 8) for example in examples)
    assert examples[0].caption == "a sks dog"
    grown = make_examples(model, subjects(photos=photos(masked=True)), raw, 64, dilation=8)
    assert grown[0].mask is not None and examples[0].mask is not None
    assert float(grown[0].mask.sum()) > float(examples[0].mask.sum())


def test_several_subjects_keep_their_own_words():
    cat = Subject(identifier="ohwx", class_noun="cat", photos=(Photo(pixels=torch.rand(64, 64, 3)),))
    examples = make_examples(tiny_models()[0], (*subjects(), cat), torch.zeros(3, 4, 8, 8), 64)
    assert [example.class_noun for example in examples] == ["dog", "dog", "cat"]
    assert examples[2].caption == "a ohwx cat"

"""Reference images and masks reach the network as stock nodes hand them on; what does not fit is refused in words."""

from __future__ import annotations

from types import SimpleNamespace

import node_helpers
import pytest
import torch
from nodes import InpaintModelConditioning
from sample_graphs import request
from tiny_model import tiny_models
from trainer_rig import photos, subjects, train

from comfyui_personalize.benchmarks.every_family.cases import CASES
from comfyui_personalize.benchmarks.every_family.clips import CLIPS
from comfyui_personalize.benchmarks.every_family.networks import build_model
from comfyui_personalize.benchmarks.every_family.rig import NOISE_SEED, Rig, relative_error
from comfyui_personalize.benchmarks.every_family.stock import stock_step
from comfyui_personalize.core.data.options import DataOptions
from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.model.contracts import Conditioning
from comfyui_personalize.core.subject.subject import Photo, Subject
from comfyui_personalize.nodes.bridge.model.conditions import calls_of, conditions_of
from comfyui_personalize.nodes.bridge.model.gradients import trainable
from comfyui_personalize.nodes.bridge.photos.latents import data_hash
from comfyui_personalize.nodes.bridge.photos.photos import with_references
from comfyui_personalize.nodes.bridge.photos.references import check_references, encode_references
from comfyui_personalize.nodes.bridge.text.encoder import ComfyTextEncoder, row_of
from comfyui_personalize.nodes.bridge.text.pictures import sees_pictures, tokenize_with_pictures

pytestmark = pytest.mark.usefixtures("inference_mode")
EDITS = ["flux_kontext", "qwen_image_edit", pytest.param("flux2_klein", marks=pytest.mark.full)]


def picture(height, width, seed=0):
    return torch.rand(height, width, 3, generator=torch.Generator().manual_seed(seed))


def edited(count=2, references=1, **changes):
    """A subject whose photos have references of other sizes."""
    own = photos(count)
    shown = [picture(40 + 8 * number, 56, seed=9 + number)[None] for number in range(count * references)]
    return subjects(photos=with_references(own, shown), **changes)


# What the network is shown

@pytest.mark.parametrize("name", EDITS)
def test_references_of_any_size_are_predicted_as_behind_stock_reference_latent(name):
    rig = Rig.of(CASES[name])
    channels, frames = rig.case.latent[0], rig.case.latent[1:-2]
    latents = [torch.randn(channels, 6, 10), torch.randn(channels, 4, 4)]
    context, beside = rig.case.text(5, rig.case.lengths[0])
    stock = node_helpers.conditioning_set_values(
        [[context, beside]], {"reference_latents": [one.reshape(1, channels, *frames, *one.shape[1:])
                                                    for one in latents]}, append=True)
    row = row_of(context, beside).beside({"reference_latents": [one[None] for one in latents]})
    with trainable(rig.model):
        own, plain = rig.own_step(row), rig.own_step(row_of(context, beside))
    expected = stock_step(rig.model, stock[0], rig.latent, rig.sigma, NOISE_SEED)
    assert relative_error(own, expected) <= 1e-5 < relative_error(plain, expected)


def test_rows_of_other_references_are_calls_of_their_own():
    model = build_model(CASES["flux_kontext"])
    noisy, text = torch.randn(1, 16, 8, 8), row_of(*CASES["flux_kontext"].text(5, 20))
    rows = [text.beside({"reference_latents": [torch.zeros(1, 16, *size)]} if size else {})
            for size in ((6, 8), None, (6, 8), (8, 6))]
    made = [conditions_of(model.model, row, noisy, (64, 64)) for row in rows]
    assert calls_of(made, False) == [[0, 2], [1], [3]]


def encoded(models, chosen, tmp_path, size=64, is_seen=False, model=None):
    return encode_references(model or models[0], models[2], chosen, size, 8, tmp_path, "vae", is_seen)


def test_references_are_encoded_whole_once_for_each_side_and_kept_on_disk(tmp_path, monkeypatch):
    models, calls = tiny_models(), []
    kontext, chosen = build_model(CASES["flux_kontext"]), edited(data=DataOptions(flip=True, views=2))
    encode = models[2].encode
    monkeypatch.setattr(models[2], "encode", lambda pixels: calls.append(tuple(pixels.shape)) or encode(pixels))
    views = encoded(models, chosen, tmp_path, model=kontext)
    assert [len(own) for own in views] == [4, 4]
    assert views[0][0].latents[0].shape == (4, 7, 9)  # 40 x 56 pixels at the area of 64 x 64
    assert len(calls) == 4
    encoded(models, chosen, tmp_path, model=kontext)
    assert len(calls) == 4
    assert views[0][0].pictures == () and encoded(models, chosen, tmp_path, model=kontext, is_seen=True)[0][0].key


def test_a_reference_of_the_photos_own_size_is_cut_with_it(tmp_path):
    models, own = tiny_models(), photos(1)
    chosen = subjects(photos=with_references(own, [own[0].pixels[None]]))
    kontext = build_model(CASES["flux_kontext"])
    (view,), = encoded(models, chosen, tmp_path, model=kontext)
    assert view.latents[0].shape == (4, 8, 8)


def test_a_photos_own_mask_is_what_stock_inpaint_conditioning_makes_of_it(tmp_path):
    models, model = tiny_models(), build_model(CASES["sd15_inpainting"])
    pixels, mask = picture(64, 64), torch.zeros(64, 64)
    mask[8:40, 16:48] = 1
    chosen = subjects(photos=(Photo(pixels=pixels, mask=mask),), data=DataOptions(inpaint_masks=True))
    (view,), = encoded(models, chosen, tmp_path, model=model)
    text = row_of(torch.zeros(1, 77, 64), {})
    stock = InpaintModelConditioning().encode([[text.context, {}]], [[text.context, {}]], pixels[None], models[2],
                                              mask[None])[0][0][1]
    assert torch.allclose(view.concat, stock["concat_latent_image"][0], atol=1e-5)
    noisy = torch.randn(1, 4, 8, 8)
    own, expected = (conditions_of(model.model, Conditioning(text.context, extra=extra), noisy, (64, 64))["c_concat"]
                     for extra in (view.conditions(), stock))
    assert torch.allclose(own.cond, expected.cond, atol=1e-5)
    full = conditions_of(model.model, text, noisy, (64, 64))["c_concat"]
    assert not torch.allclose(full.cond, expected.cond)


def test_an_edit_model_with_channels_of_its_own_reads_the_picture_there(tmp_path):
    models, model = tiny_models(), build_model(CASES["sd15_edit"])
    chosen = subjects(photos=with_references(photos(1), [picture(72, 96)[None]]))
    check_references(model, chosen)
    (view,), = encoded(models, chosen, tmp_path, model=model)
    made = conditions_of(model.model, Conditioning(torch.zeros(1, 77, 64), extra=view.conditions()),
                         torch.randn(1, 4, 8, 8), (64, 64))
    assert torch.equal(made["c_concat"].cond[0], view.concat) and view.latents == ()


# What text encoders look at

def tokens_of(clip, run):
    """What a stock node hands to the encoder."""
    seen = {}
    watching = SimpleNamespace(tokenize=clip.tokenize, encode_from_tokens_scheduled=lambda tokens: seen.update(tokens)
                               or [[torch.zeros(1, 1, 1), {}]])
    run(watching)
    return seen


def tokenizer(kind):
    made = CLIPS[kind][0]()
    return SimpleNamespace(tokenizer=made, tokenize=lambda text, **given: made.tokenize_with_weights(text, **given))


def same_tokens(own, stock):
    (mine,), (theirs,) = own.values(), stock.values()
    assert len(mine[0]) == len(theirs[0])
    for (one, *_), (other, *_) in zip(mine[0], theirs[0], strict=True):
        if isinstance(one, dict):
            assert torch.allclose(one["data"], other["data"], atol=1e-6)
        else:
            assert one == other


def test_qwen_looks_at_one_reference_and_at_several_as_stock_nodes_show_them():
    from comfy_extras.nodes_qwen import TextEncodeQwenImageEdit, TextEncodeQwenImageEditPlus

    clip, images = tokenizer("qwen_image"), [picture(40, 60), picture(50, 30, seed=1)]
    assert sees_pictures(clip)
    one = tokens_of(clip, lambda watching: TextEncodeQwenImageEdit.execute(watching, "a sks dog", None,
                                                                           images[0][None]))
    same_tokens(tokenize_with_pictures(clip, "a sks dog", images[:1]), one)
    two = tokens_of(clip, lambda watching: TextEncodeQwenImageEditPlus.execute(
        watching, "a sks dog", None, *(image[None] for image in images)))
    same_tokens(tokenize_with_pictures(clip, "a sks dog", images), two)


@pytest.mark.parametrize(("kind", "expected"), [("clip_l", False), ("flux2_klein", False), ("krea2", True)])
def test_text_encoders_that_take_no_pictures_are_given_none(kind, expected):
    assert sees_pictures(tokenizer(kind)) is expected


def test_a_row_beside_a_picture_is_kept_apart_from_the_prompts_own_in_memory_and_on_disk(tmp_path):
    calls = []

    def tokenize(text, images=()):
        return {"x": [[({"type": "image", "data": one}, 1.0) for one in images] + [(3, 1.0)]]}

    def encode(tokens, **_):
        calls.append(len(tokens["x"][0]))
        return {"cond": torch.full((1, len(tokens["x"][0]), 4), 1.0), "pooled_output": None}

    clip = SimpleNamespace(cond_stage_model=torch.nn.Module(), tokenize=tokenize, encode_from_tokens=encode,
                           layer_idx=None, tokenizer_options={}, tokenizer=SimpleNamespace())
    for expected in ([2, 1, 2], [2, 1, 2]):
        encoder = ComfyTextEncoder(clip, cache=(tmp_path, "clip"))
        rows = encoder.encode(["a"] * 3, None, [(picture(8, 8),), (), (picture(8, 8, seed=1),)])
        assert [row.context.shape[1] for row in rows] == expected
    assert calls == [2, 1, 2]


# What is refused

@pytest.mark.parametrize(("count", "shown"), [(2, 3), (3, 2)])
def test_references_of_another_number_are_refused(count, shown):
    with pytest.raises(InputError, match=f"{shown} reference images for {count} photos"):
        with_references(photos(count), [picture(32, 32)[None]] * shown)


def test_a_reference_that_is_a_placeholder_is_refused_by_its_own_name():
    with pytest.raises(InputError, match="^references: got a photo of 1 x 1 pixels"):
        with_references(photos(1), [torch.zeros(1, 1, 1, 3)])


def test_two_references_each_go_to_their_photos_in_order():
    shown = [torch.full((1, 8, 8, 3), number / 10) for number in range(4)]
    first, second = with_references(photos(2), shown)
    assert [float(one.pixels.mean()) for one in second.references] == pytest.approx([0.2, 0.3])
    assert len(first.references) == 2


@pytest.mark.parametrize(("chosen", "fault"), [
    (edited(), "references: got reference images with a model that reads none"),
    (subjects(data=DataOptions(inpaint_masks=True)), "inpaint_masks: got on, with a model that reads no mask")])
def test_a_model_that_does_not_read_them_is_refused_before_anything_is_loaded(store, chosen, fault):
    with pytest.raises(InputError, match=fault):
        train(tiny_models(), subject=chosen)


def test_an_inpainting_run_needs_a_mask_for_each_photo():
    chosen = subjects(data=DataOptions(inpaint_masks=True))
    with pytest.raises(InputError, match="2 photos without a mask"):
        check_references(build_model(CASES["sd15_inpainting"]), chosen)


def test_photos_without_references_keep_their_digest():
    own, plain = edited(), subjects()
    assert data_hash(own) != data_hash(plain)
    stripped = (Subject(identifier="sks", class_noun="dog", photos=photos(2)),)
    assert data_hash(stripped) == data_hash(plain)
    assert request(tiny_models()).config.key_fields() == request(tiny_models(), subject=own).config.key_fields()



"""Mask from Noun: the mask is what attention says, computed by hand; on the pocket model it lies on the subject."""

from __future__ import annotations

import math

import comfy.sd
import pytest
import torch
from families import family_models
from run_node import run_node
from tiny_model import tiny_models
from torch.nn import functional

from comfyui_personalize.core.dci.noun_attention import cut
from comfyui_personalize.core.errors import InputError
from comfyui_personalize.nodes.bridge.dci.noun_masks import LEVELS, working_size
from comfyui_personalize.nodes.mask_from_noun import MaskFromNoun
from comfyui_personalize.nodes.subject_photos import SubjectPhotos
from comfyui_personalize.pocket.comfyui.registration import CHECKPOINTS, register_pocket
from comfyui_personalize.pocket.subjects import held_out_pictures

SETTINGS = {"class_noun": "dog", "threshold": 0.0, "resolution": 64, "template": "a {noun}", "seed": 0}
NOUN_COLUMN = 2
"""Of 'a dog': begin, a, dog."""


def masks(models, *images, **changes):
    """The node's masks; ComfyUI gives it a list for every input."""
    inputs = {**dict(zip(("model", "clip", "vae"), models, strict=True)), **SETTINGS, **changes}
    return run_node(MaskFromNoun, images=list(images), **{name: [value] for name, value in inputs.items()})[0]


def picture(height=64, width=64, rows=1):
    return torch.rand(rows, height, width, 3, generator=torch.Generator().manual_seed(height))


@pytest.fixture(scope="module")
def tiny():
    return tiny_models()


def projections(network, seen):
    """Hooks that note queries and keys of every cross-attention, in the order in which the network runs them."""
    for name, module in network.named_modules():
        if name.endswith("attn2"):
            for part in ("to_q", "to_k"):
                yield getattr(module, part).register_forward_hook(
                    lambda _, __, out, name=name, part=part: seen.setdefault(name, []).append((part, out)))


def test_a_mask_is_the_attention_to_the_noun_averaged_over_heads_layers_and_levels_and_cut_by_otsu(tiny):
    seen: dict[str, list] = {}
    hooks = list(projections(tiny[0].model.diffusion_model, seen))
    try:
        mask, = masks(tiny, picture())
    finally:
        for hook in hooks:
            hook.remove()
    fine = []
    for calls in seen.values():
        (_, *queries), (_, *keys) = ([part, *(out for kind, out in calls if kind == part)] for part in ("to_q", "to_k"))
        assert len(queries) == len(keys) == len(LEVELS)
        if queries[0].shape[1] != 64:  # the finest grid, 8 x 8, is nearest to 16
            continue
        total = torch.zeros(64)
        for query, key in zip(queries, keys, strict=True):
            for head in range(2):
                own = slice(head * query.shape[-1] // 2, (head + 1) * query.shape[-1] // 2)
                scores = query[0, :, own] @ key[0, :, own].T / math.sqrt(query.shape[-1] // 2)
                total += scores.softmax(-1)[:, NOUN_COLUMN]
        fine.append((total / total.mean()).reshape(8, 8))
    heat = functional.interpolate(torch.stack(fine).mean(0)[None, None], size=(64, 64), mode="bilinear")[0, 0]
    expected = cut((heat - heat.min()) / (heat.max() - heat.min()))
    assert mask.shape == (1, 64, 64) and 0 < float(mask.mean()) < 1
    assert float((mask[0] != expected).float().mean()) < 0.01  # rounding at the outline


def test_every_photo_gets_a_mask_of_its_size_that_subject_photos_takes(tiny):
    photos = [picture(96, 64), picture(64, 128, rows=2)]
    found = masks(tiny, *photos)
    assert [tuple(mask.shape) for mask in found] == [(1, 96, 64), (1, 64, 128), (1, 64, 128)]
    subject, *_ = run_node(SubjectPhotos, images={"image0": photos}, masks={"mask0": found}, identifier=["zkz"],
                           class_noun=["dog"], caption_template=["a {V} {noun}"])
    assert all(torch.equal(photo.mask, mask[0]) for photo, mask in zip(subject[0].photos, found, strict=True))


def test_the_same_seed_gives_the_same_mask_and_the_model_stays_as_it_was(tiny):
    first, second = masks(tiny, picture())[0], masks(tiny, picture())[0]
    assert torch.equal(first, second)
    assert "calc_cond_batch" not in {str(kind) for kind in tiny[0].wrappers if tiny[0].wrappers[kind]}


def test_a_higher_threshold_gives_a_smaller_mask_inside_the_larger(tiny):
    small, large = masks(tiny, picture(), threshold=0.7)[0], masks(tiny, picture(), threshold=0.3)[0]
    assert 0 < small.sum() < large.sum() and bool((small <= large).all())


def test_a_photo_keeps_its_shape_and_about_the_pixels_of_the_resolution():
    assert working_size(512, 512, 512, 8) == (512, 512)
    assert working_size(3000, 4000, 512, 64) == (448, 576)
    assert working_size(10, 2000, 64, 8) == (8, 904)


@pytest.mark.parametrize("family", ["sd3", pytest.param("flux", marks=pytest.mark.full)])
def test_transformers_whose_attention_can_be_read_give_masks_too(family):
    mask, = masks(family_models(family)[:3], picture())
    assert mask.shape == (1, 64, 64) and 0 < float(mask.mean()) < 1


@pytest.mark.parametrize(("changes", "message"), [
    ({"class_noun": " "}, "class_noun: got an empty text"),
    ({"template": "a dog"}, "template: got 'a dog', expected a text with {noun}"),
    ({"clip": None}, "clip: got nothing"), ({"vae": None}, "vae: got nothing")])
def test_what_cannot_be_used_is_named(tiny, changes, message):
    with pytest.raises(InputError, match=message):
        masks(tiny, picture(), **changes)


def test_a_network_that_hides_its_attention_is_refused_in_a_sentence_about_masks(tiny, monkeypatch):
    monkeypatch.setattr(tiny[0].model, "diffusion_model", torch.nn.Linear(2, 2))
    with pytest.raises(InputError, match=r"model: got Linear, .*Paint the masks, or make them with another node\.$"):
        masks(tiny, picture())


# ---- The pocket model ----

def iou(found, truth):
    return float((found & truth).sum() / (found | truth).sum())


def test_on_held_out_pictures_masks_lie_on_the_subject_rather_than_beside_it():
    """0.72 against 0.19."""
    register_pocket()
    with torch.inference_mode():
        pocket = comfy.sd.load_checkpoint_guess_config(str(CHECKPOINTS / "pocket.safetensors"))[:3]
    found, moved = [], []
    for shown in held_out_pictures(16):
        truth = torch.from_numpy(shown.cover.copy()) >= 128
        mask, = masks(pocket, torch.from_numpy(shown.pixels.copy())[None].float() / 255, class_noun=shown.noun,
                      resolution=0)
        found.append(iou(mask[0].bool(), truth))
        moved.append(iou(mask[0].bool().roll(24, 1), truth))
    assert sum(found) / 16 > 0.65 and sum(found) > 2.5 * sum(moved)

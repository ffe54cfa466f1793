"""What a recorder keeps of DCI's maps, and the sheets that are drawn of it."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from comfyui_personalize.core.dci.observation import KINDS, MaskRecorder, grid_of, stretch
from comfyui_personalize.core.dci.sheets import CAPTION, GAP, HEAD, LEFT, TILE, blend, colour, render_sheets, thin
from comfyui_personalize.core.errors import InputError

LAYERS = {"input 1": (16, 12), "input 2": (8, 6), "output 1": (8, 6), "output 2": (16, 12)}
SIGMAS = (14.6, 7.0, 3.0)


def maps(layer: str, sigma: float, kind: int, pictures: int = 2, heads: int = 4) -> torch.Tensor:
    """Maps (B, H, N) that belong to a layer, a noise level and a kind."""
    height, width = LAYERS[layer]
    generator = torch.Generator().manual_seed(1000 * list(LAYERS).index(layer) + round(10 * sigma) + kind)
    return torch.rand(pictures, heads, height * width, generator=generator)


def recorded(**settings) -> MaskRecorder:
    recorder = MaskRecorder(16, 12)
    for sigma in SIGMAS:
        for layer in LAYERS:
            concept, auxiliary, mask = (maps(layer, sigma, kind, **settings) for kind in range(3))
            recorder.record(layer=layer, sigma=sigma, concept_map=concept, auxiliary_map=auxiliary, mask=mask)
    return recorder


def test_layers_scales_and_noise_levels_come_in_order():
    recorder = recorded()
    assert recorder.layers == tuple(LAYERS) and recorder.grids == ((8, 6), (16, 12))
    assert recorder.sigmas == SIGMAS and recorder.pictures == 2 and not recorder.is_empty
    assert MaskRecorder(16, 12).is_empty


@pytest.mark.parametrize(("kind", "number"), [("concept", 0), ("auxiliary", 1), ("mask", 2)])
def test_means_equal_means_over_everything_that_was_recorded(kind, number):
    recorder = recorded()

    def mean(layers, sigmas):
        every = [maps(layer, sigma, number).mean(1) for layer in layers for sigma in sigmas]
        return torch.stack(every).mean(0)

    torch.testing.assert_close(recorder.at_layer("input 1", kind).flatten(1), mean(["input 1"], SIGMAS))
    torch.testing.assert_close(recorder.at_scale((8, 6), kind).flatten(1), mean(["input 2", "output 1"], SIGMAS))
    torch.testing.assert_close(recorder.at_step((16, 12), 7.0, kind).flatten(1), mean(["input 1", "output 2"], [7.0]))
    assert recorder.at_step((16, 12), 1.0, kind) is None


def test_every_scale_has_the_same_weight_in_the_mean():
    recorder = MaskRecorder(16, 12)
    for layer, value in (("a", 0.0), ("b", 0.0), ("c", 0.0), ("coarse", 1.0)):
        values = torch.full((1, 2, 48 if layer == "coarse" else 192), value)
        recorder.record(layer=layer, sigma=1.0, concept_map=values, auxiliary_map=values, mask=values)
    mean = recorder.mean("mask", 32, 24)
    assert mean.shape == (1, 32, 24)
    torch.testing.assert_close(mean, torch.full_like(mean, 0.5))
    torch.testing.assert_close(recorder.mean("mask", 4, 4, [(8, 6)]), torch.ones(1, 4, 4))


def test_the_auxiliary_mask_is_what_the_mask_leaves():
    recorder = recorded()
    torch.testing.assert_close(recorder.at_layer("input 2", "auxiliary mask"), 1 - recorder.at_layer("input 2", "mask"))


def test_memory_does_not_grow_with_the_calls_at_one_noise_level():
    recorder = recorded()
    kept = len(recorder._layers), len(recorder._steps)
    concept = maps("input 1", 7.0, 0)
    recorder.record(layer="input 1", sigma=7.0, concept_map=concept, auxiliary_map=concept, mask=concept)
    assert (len(recorder._layers), len(recorder._steps)) == kept == (4, 6)


@pytest.mark.parametrize(("pixels", "size", "grid"), [
    (64, (8, 8), (8, 8)), (16, (8, 8), (4, 4)), (35, (9, 13), (5, 7)), (12, (9, 13), (3, 4)), (1, (8, 8), (1, 1))])
def test_a_layers_grid_is_the_latents_halved_and_rounded_up(pixels, size, grid):
    assert grid_of(pixels, *size) == grid


def test_a_layer_that_saw_only_a_region_is_refused():
    with pytest.raises(InputError, match="positive: got a layer of 32 pixels, expected layers that see the whole"):
        grid_of(32, 8, 8)


def test_stretching_fills_the_range_of_every_picture_alone():
    values = torch.stack([torch.linspace(0.2, 0.4, 12).view(3, 4), torch.full((3, 4), 0.7)])
    stretched = stretch(values)
    torch.testing.assert_close(stretched[0], torch.linspace(0, 1, 12).view(3, 4))
    assert (stretched[1] == 0).all()


@pytest.mark.parametrize(("layout", "rows", "columns"), [("scales", 2, 4), ("layers", 4, 4), ("steps", 2, 3)])
@pytest.mark.parametrize("kind", KINDS)
def test_sheets_have_a_tile_for_every_row_and_column(layout, rows, columns, kind):
    sheets = render_sheets(recorded(), layout, kind)
    height = HEAD + rows * (TILE + CAPTION + GAP) + GAP
    assert sheets.shape == (2, height, LEFT + columns * (TILE + GAP) + GAP, 3)
    assert sheets.min() >= 0 and sheets.max() <= 1 and not torch.equal(sheets[0], sheets[1])
    assert torch.equal(sheets, render_sheets(recorded(), layout, kind))


def test_colours_rise_evenly_in_brightness_so_that_grey_prints_read():
    values = torch.linspace(0, 1, 64)[None]
    grey = colour(values)[0] @ torch.tensor([0.299, 0.587, 0.114])
    assert (grey.diff() > 0).all() and grey[0] < 0.05 and grey[-1] > 0.9


def test_a_blended_picture_keeps_what_the_mask_keeps_and_darkens_the_rest():
    picture = Image.new("RGB", (32, 32), "white")
    mask = torch.cat([torch.ones(8, 4), torch.zeros(8, 4)], 1)
    blended = blend(picture, mask)
    assert blended.size == picture.size and blended.getpixel((2, 16)) == (255, 255, 255)
    assert max(blended.getpixel((30, 16))) < 210


def test_thinned_steps_keep_the_first_and_the_last():
    assert thin(list(range(5)), 10) == list(range(5))
    thinned = thin(list(range(100)), 10)
    assert len(thinned) == 10 and thinned[0] == 0 and thinned[-1] == 99

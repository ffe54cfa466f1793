"""DCI Masks: the stock sampler's picture, bit by bit, with sheets and masks of what DCI's layers saw."""

from __future__ import annotations

import comfy.utils
import latent_preview
import nodes as stock
import pytest
import torch
from dci_rig import apply_dci, empty_latent, encode, ksample, steps_in_window
from run_node import run_node

from comfyui_personalize.core.dci.config import DCIConfig
from comfyui_personalize.core.errors import InputError
from comfyui_personalize.nodes.bridge.dci.dual_branch import patch_dual_branch
from comfyui_personalize.nodes.bridge.dci.watched_sampling import SamplerSettings, sample_watched
from comfyui_personalize.nodes.dci_masks import LAYOUTS, SHOWN, DCIMasks

SETTINGS = {"seed": 3, "steps": 8, "cfg": 4.0, "sampler_name": "ddim", "scheduler": "normal", "denoise": 1.0,
            "sheet": "scales", "shown": "mask", "threshold": 0.0, "overlay": True}


@pytest.fixture(scope="module")
def dual(tiny):
    return (*apply_dci(*tiny), encode(tiny[1], ""))


def masks(dual, latent=None, **changes):
    model, positive, negative = dual
    return run_node(DCIMasks, model=model, positive=positive, negative=negative,
                    latent_image=latent or empty_latent(), **{**SETTINGS, **changes})


def test_the_latent_is_the_stock_samplers_bit_by_bit(dual):
    latent = {**empty_latent(2), "batch_index": [4, 1]}
    sheet, mask, sampled = masks(dual, latent)
    assert torch.equal(sampled["samples"], ksample(*dual, latent)) and sampled["batch_index"] == [4, 1]
    assert sheet.shape[0] == 2 and sheet.shape[-1] == 3 and mask.shape == (2, 64, 64)


def test_an_inpainting_mask_is_kept_and_counts(dual):
    latent = {"samples": torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5)),
              "noise_mask": torch.cat([torch.zeros(1, 1, 64, 32), torch.ones(1, 1, 64, 32)], dim=3)}
    sampled = masks(dual, latent)[2]
    assert torch.equal(sampled["samples"], ksample(*dual, latent))
    assert torch.equal(sampled["noise_mask"], latent["noise_mask"])


def test_every_layer_and_every_step_in_the_window_is_recorded(dual):
    settings = SamplerSettings(seed=3, steps=20, cfg=4.0, sampler="ddim", scheduler="normal")
    with torch.inference_mode():
        recorder = sample_watched(*dual, empty_latent(), settings, overlay=False)[1]
    assert len(recorder.sigmas) == steps_in_window(20) == 6
    assert len(recorder.layers) == 7 and recorder.grids == ((4, 4), (8, 8))
    for kind in ("mask", "concept", "auxiliary"):
        means = recorder.mean(kind, 8, 8)
        assert means.min() >= 0 and means.max() <= 1 and means.std() > 0


@pytest.mark.parametrize("shown", SHOWN)
@pytest.mark.parametrize("sheet", LAYOUTS)
def test_every_sheet_and_map_can_be_shown(dual, sheet, shown):
    drawn, mask, _ = masks(dual, sheet=sheet, shown=shown)
    assert drawn.isfinite().all() and drawn.min() >= 0 and drawn.max() <= 1
    assert float(mask.min()) == 0 and float(mask.max()) == 1


def test_a_threshold_cuts_the_mask(dual):
    soft, hard = masks(dual)[1], masks(dual, threshold=0.5)[1]
    assert torch.equal(hard, (soft >= 0.5).float()) and 0 < hard.mean() < 1


def test_the_same_seed_gives_the_same_sheet_and_the_model_keeps_no_recorder(dual):
    first, second = masks(dual), masks(dual)
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    assert not torch.equal(first[1], masks(dual, seed=4)[1])
    wrappers = dual[0].wrappers["outer_sample"]["personalize_dci"]
    assert len(wrappers) == 1 and wrappers[0].recorder is None


@pytest.mark.parametrize("overlay", [True, False])
def test_the_live_preview_shows_the_mask_only_where_asked_for(dual, monkeypatch, overlay):
    shown = []
    factors = dual[0].model.latent_format
    monkeypatch.setattr(latent_preview, "get_previewer", lambda device, form: latent_preview.Latent2RGBPreviewer(
        factors.latent_rgb_factors))
    monkeypatch.setattr(comfy.utils.ProgressBar, "update_absolute",
                        lambda self, value, total=None, preview=None: shown.append((value, preview)))
    masks(dual, overlay=overlay)
    plain = shown.copy()
    shown.clear()
    ksample(*dual)
    assert [value for value, _ in plain] == [value for value, _ in shown] == list(range(1, 9))
    equal = [ours[1].tobytes() == stock_[1].tobytes()
             for (_, ours), (_, stock_) in zip(plain, shown, strict=True)]
    assert not any(equal) if overlay else all(equal)


def test_a_model_or_a_conditioning_without_dci_is_refused_before_sampling(tiny, dual):
    model, clip = tiny
    with pytest.raises(InputError, match="model: got a MODEL without DCI"):
        masks((model, dual[1], dual[2]))
    with pytest.raises(InputError, match="positive: got a conditioning without an auxiliary prompt"):
        masks((dual[0], encode(clip, "a photo of a sks dog"), dual[2]))
    area = stock.ConditioningSetArea().append(dual[1], 32, 64, 0, 0, 1.0)[0]
    with pytest.raises(InputError, match="positive: got a conditioning for a region"):
        masks((dual[0], area, dual[2]))


def test_branches_that_are_added_without_masks_have_none_to_show(tiny, dual):
    model = patch_dual_branch(tiny[0], DCIConfig(aggregation="sum"))
    with pytest.raises(InputError, match="options: got branches added without masks"):
        masks((model, *dual[1:]))


def test_a_run_that_never_enters_the_window_says_so(dual):
    with pytest.raises(InputError, match="window: got a run in which DCI was active at no step"):
        masks(dual, denoise=0.5)

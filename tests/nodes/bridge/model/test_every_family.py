"""Every family that ComfyUI loads can learn, or the page says why not: measured as `make families` does it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from comfy import supported_models

from comfyui_personalize.benchmarks.every_family.cases import CASES
from comfyui_personalize.benchmarks.every_family.measure import measure
from comfyui_personalize.benchmarks.every_family.networks import build_model, randomise
from comfyui_personalize.benchmarks.every_family.page import VERIFIED, found
from comfyui_personalize.benchmarks.every_family.verdict import LIMITS
from comfyui_personalize.nodes.bridge.model.families import family_warnings, measured

DOCUMENTED = {record["name"]: record for record in
              json.loads((Path(__file__).parents[4] / "docs" / "families.json").read_text(encoding="utf-8"))}
QUICK = ("sdxl_edm", "sd15_edit", "flux", "chroma", "z_image", "qwen_image")
"""One of every kind: EDM, a picture beside the noise, joint attention, masked text, one stream, a frame."""
SAME_NETWORK = {
    "HunyuanDiT1": "HunyuanDiT with other text conditions", "KOALA_700M": "KOALA", "Segmind_Vega": "KOALA's structure",
    "SD21UnclipL": "SD 2.1 with a picture's embedding", "SD21UnclipH": "SD 2.1 with a picture's embedding",
    "SDXL_instructpix2pix": "SDXL that edits a picture", "WAN22_T2V": "Wan of two frames' channels",
    "WAN21_CausalAR_T2V": "Wan, frame after frame", "Kandinsky5": "Kandinsky 5 for videos",
}
OTHER_TASKS = set("""
    LotusD Stable_Zero123 SD_X4Upscaler SV3D_u SV3D_p SVD_img2vid StableAudio StableAudio3 ACEStep ACEStep15 GenmoMochi
    LTXV LTXAV MiniMaxH3 HunyuanVideo HunyuanVideoI2V HunyuanVideoSkyreelsI2V HunyuanVideo15
    HunyuanVideo15_SR_Distilled HunyuanImage21Refiner CosmosT2V CosmosI2V CosmosI2VPredict2 PiD WAN21_I2V
    WAN21_FunControl2V WAN21_Vace WAN21_Camera WAN22_Camera WAN22_S2V WAN21_HuMo WAN22_Animate WAN21_FlowRVS WAN21_SCAIL
    WAN21_SCAIL2 WAN22_WanDancer Hunyuan3Dv2 Hunyuan3Dv2mini Hunyuan3Dv2_1 TripoSplat SeedVR2 RT_DETR_v4 SAM3 SAM31
    CogVideoX_Inpaint CogVideoX_I2V CogVideoX_T2V DepthAnything3""".split())
"""Videos, sound, 3D, upscaling, perception."""


def test_every_text_to_image_family_in_comfyuis_list_is_a_case():
    cases = {case.config.__name__ for case in CASES.values()}
    listed = {config.__name__ for config in supported_models.models if config.__module__ == supported_models.__name__}
    assert listed - cases - SAME_NETWORK.keys() == OTHER_TASKS & listed
    assert cases <= listed and not cases & OTHER_TASKS


def test_the_document_has_every_case_in_order():
    assert list(DOCUMENTED) == [case.title for case in CASES.values()]


def test_a_network_is_drawn_whole_whatever_the_memory_held():
    """Stock code leaves SD3's table of places as it finds the memory."""
    table = CASES["sd35"].config(dict(CASES["sd35"].network)).get_model({}, "", device="cpu").diffusion_model
    table.pos_embed.fill_(math.nan)
    randomise(table)
    assert table.pos_embed.isfinite().all() and 0.9 < table.pos_embed.std() < 1.1


def test_families_that_the_document_calls_verified_are_trained_without_a_warning():
    verified = {case.config.__name__ for case in CASES.values() if found(DOCUMENTED[case.title]) == VERIFIED}
    assert verified == measured.MEASURED
    model = build_model(CASES["z_image"])
    assert family_warnings(model) == []
    model.model.__class__ = type("Other", (type(model.model),), {"__module__": "a_custom_node"})
    (warning,) = family_warnings(model)
    assert "no test trains models of the kind Other; docs/families.md lists those that are verified" in warning


@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.full)
                                  for name in CASES])
def test_a_family_is_what_the_document_says(name):
    record, documented = measure(CASES[name]), DOCUMENTED[CASES[name].title]
    assert found(record) == found(documented), record
    for key, is_good in LIMITS.items():
        value = record[key]
        assert (value is None) == (documented[key] is None), record
        if isinstance(value, float):
            assert math.isfinite(value) and is_good(value) == is_good(documented[key]), record
        else:
            assert value == documented[key], record

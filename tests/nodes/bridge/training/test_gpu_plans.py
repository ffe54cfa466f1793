"""What `make gpu` trains on a part of a card: files as ComfyUI recognises and loads them, here at a small size."""

from __future__ import annotations

import sys

import comfy.model_detection
import comfy.sd
import pytest
import torch

from comfyui_personalize.benchmarks.every_family.cases import CASES
from comfyui_personalize.benchmarks.every_family.networks import build_model
from comfyui_personalize.benchmarks.every_family.rig import Rig
from comfyui_personalize.core.training.memory_plan import RECOMPUTED, MemoryPlan
from comfyui_personalize.nodes.bridge.model.storage import storage_of
from comfyui_personalize.tools.install_comfyui import ROOT

sys.path.append(str(ROOT / "benchmarks"))
import gpu_plans
import memory_plan

CLASSES = {"SDXL": "SDXL", "Flux.1": "Flux", "Z-Image": "ZImage", "Qwen-Image": "QwenImage"}


@pytest.mark.parametrize("name", CLASSES)
def test_comfyui_knows_each_model_by_the_names_and_shapes_of_its_file(name):
    network, _, _ = memory_plan.network(name, gpu_plans.SIZE)
    file = {gpu_plans.file_name(key): value for key, value in network.diffusion_model.state_dict().items()}
    assert type(comfy.model_detection.model_config_from_unet(file, "")).__name__ == CLASSES[name]


def test_a_model_that_is_stored_so_loads_in_8_bits_and_learns():
    with torch.inference_mode():
        model = comfy.sd.load_diffusion_model_state_dict(
            gpu_plans.stored(build_model(CASES["flux"]).model.diffusion_model))
    layers = storage_of(model).layers
    assert sum(layer.is_eight_bit for layer in layers) > len(layers) / 2
    gpu_plans.train(Rig(CASES["flux"], model), MemoryPlan(name=RECOMPUTED, needed=0, spared=0, beside=0), 1)


def test_what_is_chosen_is_the_fastest_way_that_fits():
    rig = Rig.of(CASES["flux"])
    assert gpu_plans.chosen(rig, gpu_plans.no_needs()).name == "resident"

"""A network whose layers ComfyUI streams learns to the same bits as a resident one, and nothing that was streamed is
kept: what a layer was lent is overwritten as soon as it is given back, as ComfyUI's buffers on a card are.

There is no card here: see `streamed_models`.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from quantised_models import CASE, STORED, load, published, quantised
from streamed_models import lend, on_another_device
from test_adapter_files import config
from tiny_model import tiny_models

from comfyui_personalize.benchmarks.every_family.networks import describe
from comfyui_personalize.benchmarks.every_family.rig import Rig
from comfyui_personalize.benchmarks.every_family.training import trainer_of
from comfyui_personalize.core.learning.adapter import make_adapters
from comfyui_personalize.core.model.storage import Placement
from comfyui_personalize.core.training.gradient_checkpointing import checkpointed, find_blocks
from comfyui_personalize.nodes.bridge.model.denoiser import ComfyDenoiser
from comfyui_personalize.nodes.bridge.model.frozen_layers import can_stream
from comfyui_personalize.nodes.bridge.model.gradients import placed, trainable
from comfyui_personalize.nodes.bridge.text.encoder import encode

STEPS = 3


@pytest.fixture
def lent(monkeypatch):
    """What was lent to layers that are streamed."""
    return lend(monkeypatch)


def learned(rig, placement):
    """The validation loss before, each step's loss, and the adapter's bits after a few steps, a preview in between."""
    with trainable(rig.model, placement=placement) as prepare, trainer_of(rig) as trainer:
        losses = [trainer.validation_loss()]
        for step in trainer.steps():
            losses.append(step.loss)
            if step.step == 1:
                trainer.eject()
                prepare()
                trainer.inject()
            if step.step == STEPS:
                break
        return losses, {name: tensor.numpy().tobytes() for name, tensor in trainer.export().adapter.items()}


@pytest.mark.parametrize("stored", [None, "scaled fp8"])
def test_a_streamed_network_learns_the_same_bits_as_a_resident_one(lent, stored, monkeypatch):
    weights = quantised(STORED[stored])[0] if stored else published()
    rig = Rig(CASE, on_another_device(load(weights), lent))
    before = describe(rig.model.model)
    streamed = learned(rig, Placement.STREAMED)
    assert rig.model.model.model_lowvram and len(lent.casts) > 50 and not lent.alive()
    assert describe(rig.model.model) == before
    monkeypatch.undo()
    assert learned(Rig(CASE, load(weights)), Placement.RESIDENT) == streamed


def unet_gradients(model, row, placement, blocks):
    with trainable(model, placement=placement):
        denoiser = ComfyDenoiser(model, 64)
        part = make_adapters({"denoiser": denoiser}, {"denoiser": config("lora", "all")}, 0)["denoiser"]
        noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
        try:
            with checkpointed(blocks(denoiser.module)):
                denoiser(noisy, torch.tensor([300]), [row]).square().mean().backward()
            return [parameter.grad for parameter in part.parameters()]
        finally:
            part.eject()


def test_a_streamed_unet_with_checkpointing_has_the_gradients_of_a_resident_one(lent, monkeypatch):
    model, clip, _ = tiny_models()
    row = encode(clip, "a sks dog")
    streamed = unet_gradients(on_another_device(model, lent), row, Placement.STREAMED, find_blocks)
    assert lent.casts and not lent.alive()
    monkeypatch.undo()
    resident = unet_gradients(tiny_models()[0], row, Placement.RESIDENT, lambda module: [])
    assert all(torch.equal(first, second) for first, second in zip(streamed, resident, strict=True))
    assert any(bool(gradient.any()) for gradient in streamed)


def test_layers_in_dynamic_vram_have_the_same_gradients_as_resident_ones():
    """What ComfyUI does for a layer with pages of its own on a device without a card: a copy in each pass."""
    gradients = []
    for has_pages in (False, True):
        model, clip, _ = tiny_models()
        row = encode(clip, "a sks dog")
        for layer in model.model.diffusion_model.modules():
            if has_pages and can_stream(layer):
                layer._v, layer.comfy_cast_weights = object(), True
        placement = Placement.STREAMED if has_pages else Placement.RESIDENT
        gradients.append(unet_gradients(model, row, placement, lambda module: []))
    assert all(torch.equal(first, second) for first, second in zip(*gradients, strict=True))


def test_streaming_takes_a_model_in_dynamic_vram_as_it_is():
    dynamic = SimpleNamespace(is_dynamic=lambda: True, clone=lambda disable_dynamic: "static")
    assert placed(dynamic, Placement.STREAMED) is dynamic
    assert placed(dynamic, Placement.RESIDENT) == "static"

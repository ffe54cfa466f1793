"""On weights of 8 bits and packed ones an adapter learns what it learns on the same weights in float32, and nothing of
what they are cast to is kept."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from quantised_models import STORED, stored_as

from comfyui_personalize.benchmarks.every_family.case import noise
from comfyui_personalize.benchmarks.every_family.rig import relative_error
from comfyui_personalize.core.learning.adapter import Adapter, AdapterConfig
from comfyui_personalize.nodes.bridge.model.gradients import trainable

KINDS = (*STORED, "scaled fp8 (older files)", "weight_dtype fp8", "GGUF")
EXACT = 2e-6
QUANTISED_INPUTS = 0.05
"""ComfyUI multiplies int8 weights by inputs that it rounds to 8 bits, too."""


@pytest.fixture(scope="module")
def rigs(tmp_path_factory):
    """The small Flux as it is stored in a kind of file, and in float32."""
    made = {}

    def of(kind):
        if kind not in made:
            made[kind] = stored_as(kind, tmp_path_factory.mktemp("files"))
        return made[kind]

    return of


@contextmanager
def adapter_in(rig, kind="lora", targets="attention"):
    """The denoiser with a random adapter in it."""
    with trainable(rig.model):
        denoiser = rig.denoiser()
        config = AdapterConfig(kind=kind, rank=4, alpha=4.0, targets=targets)
        with Adapter(denoiser.module, config, 1, denoiser.device) as adapter:
            with torch.no_grad():
                for number, parameter in enumerate(adapter.parameters()):
                    parameter.copy_(0.1 * noise(*parameter.shape, seed=number) / parameter.shape[-1] ** 0.5)
            yield denoiser, adapter


def predict(rig, denoiser):
    return denoiser(noise(1, *rig.latents.shape, seed=3), torch.tensor([rig.index]), rig.rows[:1])


def learned(rig, kind="lora"):
    """The prediction, what every tensor of an adapter is taught, and how far each layer was changed."""
    with adapter_in(rig, kind) as (denoiser, adapter):
        prediction = predict(rig, denoiser)
        (prediction - noise(1, *rig.latents.shape, seed=4)).square().mean().backward()
        gradients = [parameter.grad for parameter in adapter.parameters()]
        return prediction.detach(), gradients, adapter.relative_changes()


def check_equal(rigs, kind, adapter):
    stored, whole = rigs(kind)
    allowed = QUANTISED_INPUTS if kind in ("int8", "mixed precision") else EXACT
    prediction, gradients, changes = learned(stored, adapter)
    expected, expected_gradients, expected_changes = learned(whole, adapter)
    assert relative_error(prediction, expected) <= allowed
    for got, gradient in zip(gradients, expected_gradients, strict=True):
        assert relative_error(got, gradient) <= allowed
    assert changes == pytest.approx(expected_changes, rel=1e-5)


@pytest.mark.parametrize("kind", ["scaled fp8", "int8", "GGUF"])
def test_a_lora_learns_what_it_learns_in_float32(rigs, kind):
    check_equal(rigs, kind, "lora")


@pytest.mark.full
@pytest.mark.parametrize("adapter", ["lora", "rslora", "lokr", "loha"])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_learns_on_each_kind_of_file_what_it_learns_in_float32(rigs, kind, adapter):
    check_equal(rigs, kind, adapter)

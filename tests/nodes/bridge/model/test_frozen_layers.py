"""On weights of 8 bits and packed ones an adapter learns what it learns on the same weights in float32, and nothing of
what they are cast to is kept."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path

import comfy.sd
import pytest
import torch
from gguf_loader import is_packed
from quantised_models import STORED, stored_as

from comfyui_personalize.benchmarks.every_family.case import noise
from comfyui_personalize.benchmarks.every_family.networks import describe
from comfyui_personalize.benchmarks.every_family.rig import Rig, relative_error
from comfyui_personalize.benchmarks.every_family.stock import stock_step
from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.learning.adapter import Adapter, AdapterConfig, find_targets, is_linear
from comfyui_personalize.nodes.bridge.model.frozen_layers import whole_weight
from comfyui_personalize.nodes.bridge.model.gradients import trainable
from comfyui_personalize.nodes.bridge.model.hashes import _MEMO, model_hash
from comfyui_personalize.nodes.bridge.sampling.sampling import patched

KINDS = (*STORED, "scaled fp8 (older files)", "weight_dtype fp8", "GGUF")
EXACT = 2e-6
ROUNDED_INPUTS = {"int8": 0.05, "int8 by rows": 0.05, "int8, rotated": 0.05, "mixed precision": 0.05,
                  "int4, rotated": 0.3}
"""ComfyUI multiplies these weights by inputs that it rounds, too, to 8 bits or to 4."""


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
    allowed = ROUNDED_INPUTS.get(kind, EXACT)
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


@pytest.mark.parametrize("kind", ["scaled fp8", "int4, rotated", "GGUF",
                                  *(pytest.param(kind, marks=pytest.mark.full) for kind in KINDS)])
def test_the_gradient_through_a_layer_is_that_of_the_whole_weight(rigs, kind):
    """Also where the forward rounds its inputs."""
    stored, whole = (rig.model for rig in rigs(kind))
    layer, expected = (model.model.diffusion_model.double_blocks[0].img_attn.qkv for model in (stored, whole))
    inputs, gradient = noise(2, 5, 256, seed=1).requires_grad_(), noise(2, 5, 768, seed=2)
    with trainable(stored):
        (found,) = torch.autograd.grad(layer(inputs), inputs, gradient)
        assert relative_error(found, gradient @ expected.weight) <= EXACT
        assert torch.equal(whole_weight(layer), expected.weight)


@pytest.mark.parametrize("kind", ["dora", "oft", "full"])
@pytest.mark.parametrize("stored", ["int8", "GGUF"])
def test_kinds_that_change_whole_weights_are_refused(rigs, stored, kind):
    network = rigs(stored)[0].model.model.diffusion_model
    with pytest.raises(InputError, match=f"got {kind}, and layer .* is stored in 8 bits, expected lora"):
        find_targets(network, AdapterConfig(kind=kind, rank=4))


def kept_weights(rig):
    """How many of the weights in its blocks a forward keeps, as they are or cast."""
    kept = []
    with adapter_in(rig) as (denoiser, _):
        weights = [whole_weight(layer) for path, layer in denoiser.module.named_modules()
                   if "_blocks" in path and hasattr(layer, "comfy_cast_weights") and is_linear(layer)]
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.detach()), lambda none: none):
            predict(rig, denoiser)
    plain = [tensor.float() for tensor in kept]
    return sum(any(torch.equal(weight, tensor) or torch.equal(weight.T, tensor) for tensor in plain)
               for weight in weights)


@pytest.mark.parametrize("kind", ["scaled fp8", "GGUF"])
def test_a_forward_keeps_no_weight_and_no_cast_of_one(rigs, kind):
    stored, whole = rigs(kind)
    assert kept_weights(whole) >= 8
    assert kept_weights(stored) == 0


@pytest.mark.parametrize("kind", ["scaled fp8", "GGUF"])
def test_the_network_is_as_before_afterwards(rigs, kind):
    rig = rigs(kind)[0]
    before, digest = describe(rig.model.model), model_hash(rig.model)
    learned(rig)
    assert describe(rig.model.model) == before and model_hash(rig.model) == digest


def test_the_digest_of_scaled_weights_is_that_of_their_values(rigs):
    digests = [model_hash(rig.model) for kind in ("scaled fp8", "int8") for rig in rigs(kind)]
    assert digests[0] == digests[1] != digests[2] == digests[3]


def test_the_digest_of_a_gguf_model_is_that_of_its_packed_weights(rigs):
    """Its state dict has tensors without content, and names that no weight has."""
    model = rigs("GGUF")[0].model
    digest = model_hash(model.clone())
    assert digest == model_hash(model)
    with other_weight(model):
        assert model_hash(model) != digest


@contextmanager
def other_weight(model):
    """Within the context a bit of one packed weight is another; its digest is not remembered."""
    packed = next(weight for weight in model.model.parameters() if is_packed(weight)).as_subclass(torch.Tensor)
    _MEMO.pop(model.model, None)
    with torch.inference_mode():
        packed.view(-1)[2] ^= 1
    try:
        yield
    finally:
        _MEMO.pop(model.model, None)
        with torch.inference_mode():
            packed.view(-1)[2] ^= 1


def test_a_lora_is_learned_on_top_of_a_loaded_one_on_packed_weights(rigs):
    """A loader of such files leaves the stock loader's LoRA beside each weight."""
    stored, whole = rigs("GGUF")
    with adapter_in(whole) as (denoiser, adapter):
        file = adapter.export(denoiser.adapter_keys)
    results = [learned(Rig(rig.case, comfy.sd.load_lora_for_models(rig.model, None, file, 3.0, 0.0)[0]))
               for rig in (stored, whole)]
    assert relative_error(results[0][0], results[1][0]) <= 10 * EXACT
    for got, gradient in zip(results[0][1], results[1][1], strict=True):
        assert relative_error(got, gradient) <= 10 * EXACT
    plain = learned(stored)
    assert relative_error(plain[0], results[0][0]) > 1000 * EXACT


def test_a_lora_is_learned_through_one_that_is_beside_quantised_weights(rigs):
    """The gradient goes through both, as it does on the same weights in float32."""
    stored, whole = rigs("scaled fp8")
    with adapter_in(whole) as (denoiser, adapter):
        file = adapter.export(denoiser.adapter_keys)
    results = []
    for rig in (stored, whole):
        model = comfy.sd.load_bypass_lora_for_models(rig.model, None, file, 3.0, 0.0)[0]
        results.append(learned(Rig(rig.case, model)))
    assert relative_error(results[0][0], results[1][0]) <= EXACT
    for got, gradient in zip(results[0][1], results[1][1], strict=True):
        assert relative_error(got, gradient) <= EXACT
    plain = learned(stored)
    assert relative_error(plain[0], results[0][0]) > 100 * EXACT


@pytest.mark.parametrize("kind", ["scaled fp8", "int8", "GGUF"])
def test_stock_sampling_puts_out_what_was_learned_beside_quantised_weights(rigs, kind):
    rig = rigs(kind)[0]
    with adapter_in(rig) as (denoiser, adapter):
        own, file = rig.own_step(rig.rows[0]), adapter.export(denoiser.adapter_keys)
    plain, loaded = (stock_step(model, rig.entries[0], rig.latent, rig.sigma)
                     for model in (rig.model, patched(rig.model, None, file)[0]))
    allowed = 2e-3 if kind == "int8" else 1e-4  # a last bit decides how an input is rounded to 8 of them
    assert relative_error(own, loaded) < allowed < relative_error(plain, loaded)


# docs/stored_weights.md

DOCS = Path(__file__).parents[4] / "docs" / "stored_weights.md"
HEADER = """# What trains on which weights

Written by `WRITE_DOCS=1 pytest -m full tests/nodes/bridge/model/test_frozen_layers.py` on a small Flux of random
weights on the CPU: files quantised by ComfyUI 0.30's own layouts and loaded by its own loader, a GGUF file written with
the `gguf` package and loaded by a custom node that does as packs for such files do (`tests/nodes/gguf_loader`); the
packs themselves are not among the tests. Differences are those of a prediction and of an adapter's gradients to the
same weights in float32.

| stored as | lora, rslora | lokr | loha | dora, oft, full | prediction differs by | gradients differ by |
|---|---|---|---|---|---|---|
"""
FOOTER = """
- Frozen layers keep nothing of their weights: the backward pass casts them again.
- **int8, int4**: ComfyUI rounds the inputs of these layers to as few bits, in sampling as in training, and that is what
  their predictions differ by. The gradient is that of the unrounded product.
- **nvfp4, mxfp8, scaled fp8**: cards that multiply in these formats do so while training, too, and round inputs as they
  do in sampling. That has not been run: the CPU computes with the dequantised weights.
- **dora, oft, full** change a weight as a whole, or by more than a sum, which 8 bits cannot hold.
- **Streamed**: layers that do not fit the card come from memory in both passes, by ComfyUI's partial loading or by its
  dynamic VRAM. A small Flux and a small UNet learn so the same bits as whole, on a CPU that is told a part fits
  (`tests/nodes/bridge/model/test_streaming.py`); neither has been run on a card. dora, oft, full and a text encoder
  that learns need the model on its device as a whole.
- **From the loader to the saved file**: on a scaled fp8 checkpoint, resident and streamed, the trainer's node learns,
  goes on exactly and saves (`tests/nodes/bridge/training/test_stored_runs.py`); through the server the stock Load LoRA
  puts the file on the same 8-bit model, where it rounds it into the weights, and on the same GGUF model, where it
  stands beside them and draws the same picture (`tests/e2e/test_stored_files.py`).
- Text encoders in 8 bits do not learn; token vectors through them do.
"""


def table_row(rigs, kind):
    stored, whole = rigs(kind)
    network = stored.model.model.diffusion_model
    cells = []
    for group in (("lora", "rslora"), ("lokr",), ("loha",), ("dora", "oft", "full")):
        try:
            for name in group:
                find_targets(network, AdapterConfig(kind=name, rank=4))
            cells.append("learns")
        except InputError:
            cells.append("refused")
    prediction, gradients, _ = learned(stored)
    expected, expected_gradients, _ = learned(whole)
    worst = max(relative_error(*pair) for pair in zip(gradients, expected_gradients, strict=True))
    told = ["under 1e-5" if error < 1e-5 else f"{error:.3f}" for error in (relative_error(prediction, expected), worst)]
    return f"| {kind} | {' | '.join([*cells, *told])} |\n"


@pytest.mark.full
def test_the_page_says_what_learns_on_what(rigs):
    page = HEADER + "".join(table_row(rigs, kind) for kind in KINDS) + FOOTER
    if os.environ.get("WRITE_DOCS"):
        DOCS.write_text(page, encoding="utf-8")
    assert DOCS.read_text(encoding="utf-8") == page

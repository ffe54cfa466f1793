"""Whatever was trained, stock code makes of its file what the trainer put out."""

from __future__ import annotations

import comfy.lora
import comfy.model_management
import comfy.sd
import pytest
import torch
from tiny_model import tiny_checkpoint, tiny_models

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.learning.adapter import KINDS, AdapterConfig, make_adapters
from comfyui_personalize.nodes.bridge.model.denoiser import ComfyDenoiser, is_quantised
from comfyui_personalize.nodes.bridge.model.gradients import casting_layers, trainable
from comfyui_personalize.nodes.bridge.sampling.sampling import patched
from comfyui_personalize.nodes.bridge.text.encoder import (
    ComfyTextEncoder,
    encode,
    encode_with_gradients,
    out_of_place_layers,
)

pytestmark = pytest.mark.usefixtures("inference_mode")
INDEX = torch.tensor([300])


@pytest.fixture
def models():
    return tiny_models()


def fp8_models():
    """The tiny MODEL with weights in 8 bits, and its CLIP."""
    tiny_models()
    options = {"dtype": torch.float8_e4m3fn}
    return comfy.sd.load_checkpoint_guess_config(str(tiny_checkpoint(0)), model_options=options)[:2]


def config(kind, targets="attention", **changes):
    return AdapterConfig(kind=kind, targets=targets, **{"rank": 4, "alpha": 2.0, **changes})


def predict(denoiser, row):
    noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return denoiser(noisy, INDEX, [row]).detach().clone()


def randomise(part, size=0.05):
    generator = torch.Generator().manual_seed(1)
    part.load_state_dict({name: value + size * torch.randn(value.shape, generator=generator)
                          for name, value in part.state_dict().items()})


def trained(model, row, chosen):
    """What the denoiser puts out with a random adapter in, and the adapter's file."""
    with trainable(model), casting_layers(model.model, always=chosen.kind == "full"):
        denoiser = ComfyDenoiser(model, 64)
        part = make_adapters({"denoiser": denoiser}, {"denoiser": chosen}, 0)["denoiser"]
        try:
            randomise(part, 0.01 if chosen.kind == "full" else 0.05)
            return predict(denoiser, row), part.export(denoiser.adapter_keys)
        finally:
            part.eject()


def loaded_prediction(model, row):
    comfy.model_management.load_models_gpu([model])
    model.pre_run()
    model.inject_model()
    try:
        return predict(ComfyDenoiser(model, 64), row)
    finally:
        model.eject_model()
        comfy.model_management.unload_all_models()


def assert_close(got, expected, tolerance=1e-4):
    assert float((got - expected).abs().max()) <= tolerance * float(expected.abs().max())


def check_stock_reads(models, chosen, caplog):
    row = encode(models[1], "a sks dog")
    plain = loaded_prediction(models[0], row)
    expected, tensors = trained(models[0], row, chosen)
    stock = comfy.sd.load_lora_for_models(models[0], None, tensors, 1.0, 0)[0]
    got = loaded_prediction(stock, row)
    assert_close(got, expected)
    assert float((plain - expected).abs().max()) > 100 * float((got - expected).abs().max())
    assert torch.equal(loaded_prediction(models[0], row), plain)
    assert "not loaded" not in caplog.text and "ERROR" not in caplog.text
    return tensors


@pytest.mark.parametrize("kind", KINDS)
def test_stock_loraloader_puts_out_what_the_trainer_did(models, kind, caplog):
    check_stock_reads(models, config(kind), caplog)


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("targets", ["cross_attention_kv", "attention_and_feed_forward", "all"])
def test_stock_loraloader_reads_every_kind_in_every_layer(models, kind, targets, caplog):
    check_stock_reads(models, config(kind, targets), caplog)


@pytest.mark.parametrize("kind", ["lora", "dora", "lokr", "full"])
def test_stock_loraloader_reads_convolutions_too(models, kind, caplog):
    tensors = check_stock_reads(models, config(kind, r"input_blocks\.1\.0\..*"), caplog)
    assert any(tensor.ndim == 4 for tensor in tensors.values())


def test_stock_loraloader_reads_ranks_by_block(models, caplog):
    tensors = check_stock_reads(models, config("rslora", block_ranks="middle=8, output=0"), caplog)
    ranks = {name: len(tensor) for name, tensor in tensors.items() if "lora_down" in name}
    assert {rank for name, rank in ranks.items() if "mid_block" in name} == {8}
    assert {rank for name, rank in ranks.items() if "down_blocks" in name} == {4}
    assert not any("up_blocks" in name for name in ranks)


@pytest.mark.parametrize("kind", ["lora", "loha", "full"])
def test_stock_loraloader_reads_the_text_encoders_tensors(models, kind, caplog):
    clip = models[1]
    with trainable(clip.patcher), out_of_place_layers(clip.cond_stage_model):
        encoder = ComfyTextEncoder(clip, with_gradients=True)
        part = make_adapters({"text": encoder}, {"text": config(kind, "all")}, 0)["text"]
        randomise(part, 0.15)
        with torch.no_grad():
            expected = encode_with_gradients(clip, "a (sks:1.2) dog").context
        tensors = part.export(encoder.adapter_keys)
        part.eject()
    stock = comfy.sd.load_lora_for_models(None, clip, tensors, 0, 1.0)[1]
    # The text encoder is stored in fp16, where merging rounds; a full weight is rounded once.
    assert_close(encode(stock, "a (sks:1.2) dog").context, expected, 5e-3)
    assert not torch.allclose(encode(clip, "a (sks:1.2) dog").context, expected, atol=0.05)
    assert "not loaded" not in caplog.text


# Weights of 8 bits

@pytest.mark.parametrize("kind", ["lora", "rslora", "lokr", "loha"])
def test_an_fp8_model_computes_the_adapter_beside_its_weights(kind):
    model, clip = fp8_models()
    assert is_quantised(model)
    row = encode(clip, "a sks dog")
    chosen = config(kind, "all" if kind in ("lora", "lokr") else "attention")
    expected, tensors = trained(model, row, chosen)
    assert_close(loaded_prediction(patched(model, clip, tensors)[0], row), expected)
    merged = loaded_prediction(comfy.sd.load_lora_for_models(model, None, tensors, 1.0, 0)[0], row)
    assert float((merged - expected).abs().max()) > 1e-3 * float(expected.abs().max())


def test_a_second_adapter_of_an_fp8_model_adds_to_the_first():
    model, clip = fp8_models()
    row = encode(clip, "a sks dog")
    plain = loaded_prediction(model, row)
    _, tensors = trained(model, row, config("lora"))
    half = {name: tensor / 2 if name.endswith("alpha") else tensor for name, tensor in tensors.items()}
    once = loaded_prediction(patched(model, clip, tensors)[0], row)
    twice = patched(*patched(model, clip, half), half)[0]
    assert_close(loaded_prediction(twice, row), once)
    assert torch.equal(loaded_prediction(model, row), plain)


@pytest.mark.parametrize("kind", ["dora", "oft", "full"])
def test_kinds_that_8_bits_cannot_hold_are_refused(kind):
    model, _ = fp8_models()
    with pytest.raises(InputError, match=f"adapter kind: got {kind}, and layer .* is stored in 8 bits, expected lora"):
        make_adapters({"denoiser": ComfyDenoiser(model, 64)}, {"denoiser": config(kind)}, 0)


# Programs that read it

def programs_after_training(targets, **changes):
    from test_training_options import options
    from trainer_rig import train

    return train(tiny_models(), options=options(targets=targets, rank=4, **changes))[5].metadata["readers"]


def test_sd_scripts_reads_a_lora_of_the_blocks_and_is_named():
    assert "kohya's sd-scripts" in programs_after_training("attention_and_feed_forward")


def test_sd_scripts_drops_layers_outside_the_blocks_and_is_not_named():
    programs = programs_after_training("all")
    assert "sd-scripts" not in programs and "diffusers" in programs

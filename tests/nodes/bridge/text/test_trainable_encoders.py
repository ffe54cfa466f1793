"""T5 and language models learn through ComfyUI's own encoding: few layers of random weights under real tokenizers."""

from __future__ import annotations

import functools

import comfy.lora
import comfy.model_management
import comfy.sd
import folder_paths
import pytest
import torch
from comfy.text_encoders import flux, hidream_o1, pixart_t5, qwen_image, z_image
from families import family_models
from language_models import SMALL_T5, small_clip
from trainer_rig import train

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.learning.adapter import AdapterConfig, find_targets, make_adapters
from comfyui_personalize.core.learning.adapter.kinds import COMFYUI
from comfyui_personalize.core.training.config import TrainingOptions
from comfyui_personalize.nodes.bridge.model.gradients import trainable
from comfyui_personalize.nodes.bridge.text.encoder import (
    ComfyTextEncoder,
    check_learns_vectors,
    encode,
    encode_with_gradients,
    out_of_place_layers,
)
from comfyui_personalize.nodes.bridge.text.trainable_encoders import check_trainable, recomputed_layers

pytestmark = pytest.mark.usefixtures("inference_mode")
CLIPS = {
    "T5 (PixArt)": lambda: small_clip(pixart_t5.PixArtT5XXL, pixart_t5.PixArtTokenizer, "t5xxl", SMALL_T5),
    "Z-Image, its layer before the last": lambda: small_clip(z_image.te(), z_image.ZImageTokenizer, "qwen3_4b"),
    "Flux.2 klein, three of its layers": lambda: small_clip(flux.klein_te(), flux.KleinTokenizer, "qwen3_4b",
                                                            num_hidden_layers=28),
    "Qwen-Image, without its template": lambda: small_clip(qwen_image.te(), qwen_image.QwenImageTokenizer, "qwen25_7b"),
}
SMALLER = [name for name in CLIPS if "klein" not in name]
PROMPT = "a (gabmur:1.3) dog"


@functools.cache
def clip_of(name):
    return CLIPS[name]()


def learning(clip, kind="lora", checkpointing=True):
    """The loss of an adapter of some strength, its parameters and what is exported; the CLIP is as it was."""
    with trainable(clip.patcher), out_of_place_layers(clip.cond_stage_model):
        encoder = ComfyTextEncoder(clip, with_gradients=True)
        part = make_adapters({"text": encoder}, {"text": AdapterConfig(
            kind=kind, rank=4, alpha=4.0, targets="attention_and_feed_forward")}, 0)["text"]
        generator = torch.Generator().manual_seed(1)
        for parameter in part.parameters():
            strength = 0.3 if kind == "loha" else 0.05  # a product of four
            parameter.data.copy_(strength * torch.randn(parameter.shape, generator=generator))

        def loss():
            if not checkpointing:
                return _of(encode_with_gradients(clip, PROMPT))
            with recomputed_layers(clip.cond_stage_model):
                return _of(encode_with_gradients(clip, PROMPT))

        yield loss, part, encoder
        part.eject()


def _of(row):
    return row.context.square().mean() + row.context.flatten()[::7].sin().sum()


def gradients(loss, part):
    found = torch.autograd.grad(loss(), list(part.parameters()), allow_unused=True)
    return [torch.zeros_like(weight) if gradient is None else gradient
            for gradient, weight in zip(found, part.parameters(), strict=True)]


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("prompt", [PROMPT, "", "plüsch 熊"])
def test_rows_with_gradients_equal_comfyuis_own(name, prompt):
    clip = clip_of(name)
    with trainable(clip.patcher), out_of_place_layers(clip.cond_stage_model), recomputed_layers(clip.cond_stage_model):
        row = encode_with_gradients(clip, prompt)
    expected = encode(clip, prompt)
    assert row.context.shape == expected.context.shape
    assert torch.allclose(row.context, expected.context, atol=1e-6)


@pytest.mark.parametrize("name", SMALLER)
def test_gradients_are_slopes_of_the_loss(name):
    for loss, part, _ in learning(clip_of(name)):
        found = gradients(loss, part)
        slope = float(sum((gradient ** 2).sum() for gradient in found)) ** 0.5
        step = 1e-3

        def moved(by, found=found, slope=slope, loss=loss, part=part):
            with torch.no_grad():
                for weight, gradient in zip(part.parameters(), found, strict=True):
                    weight.add_(gradient, alpha=by / slope)
                return float(loss())

        high, low = moved(step), moved(-2 * step)
        assert slope > 0.1 and (high - low) / (2 * step) == pytest.approx(slope, rel=0.02)


@pytest.mark.parametrize("name", CLIPS)
def test_recomputation_changes_no_gradient(name):
    plain, recomputed = ([gradients(loss, part) for loss, part, _ in learning(clip_of(name), checkpointing=switch)][0]
                         for switch in (False, True))
    assert all(torch.allclose(one, other, rtol=1e-4, atol=1e-6) for one, other in zip(plain, recomputed, strict=True))
    assert sum(float(gradient.abs().sum()) > 0 for gradient in plain) >= 2 * 6, "every layer that the rows depend on"


@pytest.mark.parametrize(("name", "kind"), [*((name, "lora") for name in CLIPS), (SMALLER[0], "loha"),
                                            (SMALLER[1], "loha")])
def test_stock_loraloader_gives_the_trainers_own_encoding(name, kind, caplog):
    clip = clip_of(name)
    for _, part, encoder in learning(clip, kind):
        with torch.no_grad():
            expected = encode_with_gradients(clip, PROMPT).context
        tensors = part.export(encoder.adapter_keys)
    before = encode(clip, PROMPT).context
    assert not torch.allclose(before, expected, atol=1e-2)
    stock = comfy.sd.load_lora_for_models(None, clip, tensors, 0, 1.0)[1]
    got = encode(stock, PROMPT).context
    assert torch.allclose(got, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    assert "not loaded" not in caplog.text
    assert torch.equal(encode(clip, PROMPT).context, before), "the CLIP is as it was"


def test_the_trainer_trains_t5_beside_clip_and_hands_it_on(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    models = family_models("flux")
    before = encode(models[1], "a sks dog").context
    outputs = train(models, options=TrainingOptions(text_encoder_rate=1e-2))
    names = {name.split(".lora_")[0] for name in outputs[2] if ".lora_" in name}
    stems = comfy.lora.model_lora_keys_clip(models[1].cond_stage_model, {})
    learned = {stems[name] for name in names if name in stems}
    assert any(name.startswith("t5xxl.") for name in learned) and any(name.startswith("clip_l.") for name in learned)
    assert outputs[5].metadata["readers"] == COMFYUI
    assert not torch.allclose(encode(outputs[1], "a sks dog").context, before, atol=1e-3)
    assert torch.equal(encode(models[1], "a sks dog").context, before)


# What cannot learn is refused before anything is loaded


@pytest.fixture
def no_loading(monkeypatch):
    clip_of(SMALLER[0]), clip_of(SMALLER[1])  # a new CLIP is loaded once
    monkeypatch.setattr(comfy.model_management, "load_models_gpu", lambda *_, **__: pytest.fail("loaded"))


@pytest.mark.usefixtures("no_loading")
def test_an_encoder_in_eight_bits_is_refused(monkeypatch):
    clip = clip_of("T5 (PixArt)")
    check_trainable(clip)
    layer = clip.cond_stage_model.t5xxl.transformer.encoder.block[0].layer[0].SelfAttention.q
    packed = torch.nn.Parameter(layer.weight.to(torch.float8_e4m3fn), requires_grad=False)
    monkeypatch.setitem(layer._parameters, "weight", packed)
    with pytest.raises(InputError, match="text_encoder_rate: got the text encoder t5xxl, stored in 8 bits or less"):
        check_trainable(clip)


@pytest.mark.usefixtures("no_loading")
def test_an_encoder_of_other_layers_is_refused():
    clip = clip_of("Z-Image, its layer before the last").clone()
    clip.cond_stage_model = torch.nn.ModuleDict({"other": torch.nn.Linear(2, 2)})
    with pytest.raises(InputError, match="got the text encoder other, whose layers have no known gradients"):
        check_trainable(clip)


@pytest.mark.usefixtures("no_loading")
def test_a_family_whose_diffusion_model_reads_the_text_is_refused():
    clip = clip_of("Z-Image, its layer before the last").clone()
    clip.cond_stage_model = hidream_o1.HiDreamO1TE()
    with pytest.raises(InputError, match="got a CLIP without weights of its own"):
        check_trainable(clip)


@pytest.mark.usefixtures("no_loading")
def test_an_encoder_that_loraloader_has_no_keys_for_is_refused(monkeypatch):
    monkeypatch.setattr(comfy.lora, "model_lora_keys_clip", lambda *_: {})
    with pytest.raises(InputError, match=r"got the layer qwen3_4b\..*q_proj, which ComfyUI's LoraLoader has no key"):
        check_trainable(clip_of("Z-Image, its layer before the last"))


@pytest.mark.usefixtures("no_loading")
def test_an_encoder_larger_than_the_device_is_refused(monkeypatch):
    monkeypatch.setattr(comfy.model_management, "get_total_memory", lambda _: 2**20)
    with pytest.raises(InputError, match=r"got text encoders of 0\.0 GiB, expected what fits the 0\.0 GiB of cpu"):
        check_trainable(clip_of("Z-Image, its layer before the last"))


def test_words_are_learned_as_vectors_by_clip_alone():
    with pytest.raises(InputError, match="token vectors: got a CLIP with the encoders qwen3_4b, expected CLIP-L"):
        check_learns_vectors(clip_of("Z-Image, its layer before the last"), "token vectors", "Train without them.")


@pytest.mark.parametrize("targets", ["attention", "attention_and_feed_forward", "all"])
def test_what_a_language_model_sees_with_learns_nothing(targets):
    inside = torch.nn.ModuleDict({
        "visual": torch.nn.ModuleDict({"attn": torch.nn.ModuleDict({"qkv": torch.nn.Linear(8, 8)})}),
        "model": torch.nn.ModuleDict({"self_attn": torch.nn.ModuleDict({"o_proj": torch.nn.Linear(8, 8)})})})
    module = torch.nn.ModuleDict({"qwen": inside})
    assert set(find_targets(module, AdapterConfig(rank=2, targets=targets))) == {"qwen.model.self_attn.o_proj"}

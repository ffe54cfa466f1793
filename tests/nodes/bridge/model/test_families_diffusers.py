"""diffusers' `load_lora_weights` reads our LoRA files and predicts what the trainer predicts.

The pipelines are built from the families' own weights by diffusers' conversion of single-file checkpoints.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.model_management
import pytest
import torch
from diffusers import (
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.loaders.single_file_utils import (
    convert_flux_transformer_checkpoint_to_diffusers,
    convert_ldm_unet_checkpoint,
)
from families import SIZE_IDS, TEXT, family_models
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from comfyui_personalize.benchmarks.every_family.cases import CASES
from comfyui_personalize.benchmarks.every_family.clips import SMALL_CLIP
from comfyui_personalize.core.learning.adapter import Adapter, AdapterConfig
from comfyui_personalize.core.model.contracts import Conditioning
from comfyui_personalize.nodes.bridge.model.denoiser import ComfyDenoiser
from comfyui_personalize.nodes.bridge.model.gradients import trainable
from comfyui_personalize.nodes.bridge.text.adapter_keys import text_adapter_keys
from comfyui_personalize.nodes.bridge.text.encoder import (
    encode,
    encode_with_gradients,
    out_of_place_layers,
)

SIZE, INDEX, PROMPT = 128, 300, "a sks dog in the snow"
UNETS: dict[str, dict[str, Any]] = {
    "sd15": {"block_out_channels": (32, 64, 64, 64), "layers_per_block": 1, "cross_attention_dim": TEXT,
             "attention_head_dim": 8,
             "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
             "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3},
    "sd21": {"block_out_channels": (64, 64, 64, 64), "layers_per_block": 2, "cross_attention_dim": TEXT,
             "attention_head_dim": (1, 1, 1, 1), "use_linear_projection": True,
             "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
             "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3},
    "sdxl": {"block_out_channels": (32, 64, 128), "layers_per_block": 1, "cross_attention_dim": 2 * TEXT,
             "attention_head_dim": (1, 1, 2), "use_linear_projection": True, "transformer_layers_per_block": (1, 1, 2),
             "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
             "projection_class_embeddings_input_dim": TEXT + SIZE_IDS,
             "down_block_types": ("DownBlock2D",) + ("CrossAttnDownBlock2D",) * 2,
             "up_block_types": ("CrossAttnUpBlock2D",) * 2 + ("UpBlock2D",)},
}


def randomise(adapter: Adapter) -> None:
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in adapter.parameters():
            shape = parameter.shape
            parameter.copy_(0.3 * torch.randn(shape, generator=generator) / shape[-1] ** 0.5)


def predict(model: Any, row: Conditioning, **config: Any) -> tuple[Tensor, dict[str, Tensor], Tensor, Tensor]:
    """The trainer's prediction with a random adapter in, the adapter's file, and what the network was given."""
    with trainable(model):
        denoiser = ComfyDenoiser(model, SIZE)
        adapter = Adapter(denoiser.module, AdapterConfig(rank=4, alpha=2.0, **config), seed=1)
        randomise(adapter)
        channels = model.get_model_object("latent_format").latent_channels
        noisy = torch.randn(1, channels, 16, 16, generator=torch.Generator().manual_seed(5))
        with torch.no_grad():
            prediction = denoiser(noisy, torch.tensor([INDEX]), [row])
        adapter.eject()
        return prediction, adapter.export(denoiser.adapter_keys), noisy, denoiser.schedule.timesteps[INDEX]


def diffusers_unet(name: str, model: Any) -> UNet2DConditionModel:
    unet = UNet2DConditionModel(in_channels=4, out_channels=4, sample_size=16, **UNETS[name]).eval()
    weights = {f"model.diffusion_model.{key}": value.clone()
               for key, value in model.model.diffusion_model.state_dict().items()}
    unet.load_state_dict(convert_ldm_unet_checkpoint(weights, config=dict(unet.config)))
    return unet


def transformers_clip(encoder: Any, projected: bool, pad: int = 49407) -> nn.Module:
    settings = {key: value for key, value in SMALL_CLIP.items() if key != "eos_token_id"}
    config = CLIPTextConfig(vocab_size=49408, projection_dim=TEXT, eos_token_id=49407, pad_token_id=pad,
                            bos_token_id=49406, **settings)
    model = (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()
    known = model.state_dict().keys()
    weights = {key: value.float().clone() for key, value in encoder.transformer.state_dict().items()}
    if not any(key.startswith("text_model.") for key in known):  # transformers 5 has no such level
        weights = {key.removeprefix("text_model."): value for key, value in weights.items()}
    model.load_state_dict({key: value for key, value in weights.items() if key in known}, strict=False)
    return model


def saved(tensors: dict[str, Tensor], folder: Path) -> Path:
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "lora.safetensors")
    return folder


def assert_close(actual: Tensor, expected: Tensor) -> None:
    difference = float((actual - expected).abs().max() / expected.abs().max())
    assert difference < 1e-3, f"differs by {difference:.1e} of the largest value"


@pytest.fixture(params=UNETS)
def stable_diffusion(request):
    """A family's name, its models, and diffusers' pipeline of the same weights."""
    with torch.inference_mode():
        model, clip, vae = family_models(request.param)
        comfy.model_management.load_models_gpu([model, clip.patcher], force_full_load=True)
    stage = clip.cond_stage_model
    nothing = dict.fromkeys(("vae", "tokenizer", "scheduler", "feature_extractor"))
    unet = diffusers_unet(request.param, model)
    if request.param == "sdxl":
        pipeline = StableDiffusionXLPipeline(
            **dict.fromkeys(("vae", "tokenizer", "tokenizer_2", "scheduler")), unet=unet,
            text_encoder=transformers_clip(stage.clip_l, False),
            text_encoder_2=transformers_clip(stage.clip_g, True, pad=0))
    else:
        encoder = getattr(stage, stage.clip)
        pipeline = StableDiffusionPipeline(**nothing, unet=unet, text_encoder=transformers_clip(encoder, False),
                                           safety_checker=None, requires_safety_checker=False)
    return request.param, model, clip, pipeline


def test_diffusers_predicts_the_same_noise_with_our_lora(stable_diffusion, tmp_path):
    name, model, clip, pipeline = stable_diffusion
    row = encode(clip, PROMPT)
    prediction, lora, noisy, timestep = predict(model, row)
    added = {"text_embeds": row.pooled, "time_ids": torch.tensor([[SIZE, SIZE, 0, 0, SIZE, SIZE]])}

    def theirs() -> Tensor:
        with torch.no_grad():
            return pipeline.unet(noisy, timestep, row.context,
                                 added_cond_kwargs=added if name == "sdxl" else None).sample

    base = theirs()
    pipeline.load_lora_weights(saved(lora, tmp_path), weight_name="lora.safetensors")
    assert_close(theirs(), prediction)
    assert float((base - prediction).abs().max() / prediction.abs().max()) > 0.01, "the LoRA changes nothing"


def test_diffusers_reads_the_text_encoders_lora(stable_diffusion, tmp_path):
    name, _, clip, pipeline = stable_diffusion
    with trainable(clip.patcher), out_of_place_layers(clip.cond_stage_model):
        adapter = Adapter(clip.cond_stage_model, AdapterConfig(rank=4, alpha=2.0), seed=1)
        randomise(adapter)
        with torch.no_grad():
            row = encode_with_gradients(clip, PROMPT)
        adapter.eject()
    base = encode(clip, PROMPT)
    pipeline.load_lora_weights(saved(adapter.export(text_adapter_keys(clip.cond_stage_model)), tmp_path),
                               weight_name="lora.safetensors")
    tokens = {key: torch.tensor([[token for token, _ in chunk] for chunk in chunks])
              for key, chunks in clip.tokenize(PROMPT).items()}
    with torch.no_grad():
        theirs = text_rows(name, pipeline, tokens)
    assert_close(theirs, row.context)
    assert float((base.context - row.context).abs().max() / row.context.abs().max()) > 0.01


def text_rows(name: str, pipeline: Any, tokens: dict[str, Tensor]) -> Tensor:
    """What diffusers' pipeline of the family hands to cross-attention."""
    def hidden(encoder: nn.Module, key: str, layer: int) -> Tensor:
        return encoder(tokens[key], output_hidden_states=True).hidden_states[layer]

    if name == "sdxl":
        return torch.cat([hidden(pipeline.text_encoder, "l", -2), hidden(pipeline.text_encoder_2, "g", -2)], dim=-1)
    if name == "sd21":  # stored without its last layer, so that the last hidden state is normed
        final = [module for path, module in pipeline.text_encoder.named_modules()
                 if path.endswith("final_layer_norm")][0]
        return final(hidden(pipeline.text_encoder, "h", -2))
    return pipeline.text_encoder(tokens["l"]).last_hidden_state


# diffusers' conversions for Flux count on its full width in `linear1`, which is split by hand for the small network.

def diffusers_flux(model: Any) -> FluxTransformer2DModel:
    shape = CASES["flux"].network
    width = shape["hidden_size"]
    transformer = FluxTransformer2DModel(
        in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=128, num_attention_heads=2,
        joint_attention_dim=shape["context_in_dim"], pooled_projection_dim=shape["vec_in_dim"], guidance_embeds=True)
    weights = {key.replace("_norm.weight", "_norm.scale"): value.clone()
               for key, value in model.model.diffusion_model.state_dict().items()}
    fused = {kind: weights.pop(f"single_blocks.0.linear1.{kind}") for kind in ("weight", "bias")}
    weights |= {"single_blocks.0.linear1.weight": torch.zeros(7 * 3072, 1),
                "single_blocks.0.linear1.bias": torch.zeros(7 * 3072)}
    converted = convert_flux_transformer_checkpoint_to_diffusers(weights)
    for kind, value in fused.items():
        for layer, part in zip(("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
                               value.split([width, width, width, 4 * width]), strict=True):
            converted[f"single_transformer_blocks.0.{layer}.{kind}"] = part
    transformer.load_state_dict(converted)
    return transformer


def test_diffusers_predicts_the_same_velocity_with_our_flux_lora(tmp_path):
    with torch.inference_mode():
        model, clip, _ = family_models("flux")
        comfy.model_management.load_models_gpu([model])
    transformer = diffusers_flux(model)
    names = ("scheduler", "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
    pipeline = FluxPipeline(**dict.fromkeys(names), transformer=transformer)
    row = encode(clip, PROMPT)
    prediction, lora, noisy, timestep = predict(model, row, targets=r"double_blocks.*_attn\.\w+|.*linear2|.*_mlp\.\d")

    def theirs() -> Tensor:
        with torch.no_grad():
            packed = transformer(
                hidden_states=pipeline._pack_latents(noisy, 1, 16, 16, 16), timestep=timestep[None],
                guidance=torch.tensor([3.5]), pooled_projections=row.pooled, encoder_hidden_states=row.context,
                txt_ids=torch.zeros(row.context.shape[1], 3),
                img_ids=pipeline._prepare_latent_image_ids(1, 8, 8, "cpu", torch.float32)).sample
        return packed.view(1, 8, 8, 16, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(noisy.shape)

    base = theirs()
    pipeline.load_lora_weights(saved(lora, tmp_path), weight_name="lora.safetensors")
    assert_close(theirs(), prediction)
    assert float((base - prediction).abs().max() / prediction.abs().max()) > 0.01, "the LoRA changes nothing"


def test_diffusers_splits_fluxs_fused_layer_of_the_real_width():
    generator = torch.Generator().manual_seed(0)
    down, up = torch.randn(4, 8, generator=generator), torch.randn(7 * 3072, 4, generator=generator)
    stem = "lora_unet_single_blocks_0_linear1"
    converted, *_ = FluxPipeline.lora_state_dict(
        {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up, f"{stem}.alpha": torch.tensor(2.0)},
        return_alphas=True)
    found = torch.cat([converted[f"transformer.single_transformer_blocks.0.{layer}.lora_B.weight"]
                       @ converted[f"transformer.single_transformer_blocks.0.{layer}.lora_A.weight"]
                       for layer in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")])
    assert torch.allclose(found, 0.5 * up @ down, atol=1e-5)

"""How does the trained model become one file that ComfyUI's CheckpointLoaderSimple reads?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import save_file

from .autoencoder import load_decoder, prepare_transform
from .config import ATTENTION_LEVELS, LATENT_CHANNELS, NUM_RES_BLOCKS
from .generator import Generator, build_generator, load_ema
from .klt import VAE_SCALE, Transform, build_encoder
from .taesd import Decoder, widen
from .text import expand_encoder
from .unet import file_state, output_scale

CHECKPOINT: Final = Path(__file__).parent / "checkpoints" / "pocket.safetensors"
MAX_BYTES: Final = 48 * 10**6

RESNET_NAMES: Final = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}
TOP_NAMES: Final = {
    "conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0", "conv_out": "out.2", "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1", "mid_block.resnets.1": "middle_block.2",
    "class_embedding": "label_emb",
}


def module_names(res_blocks: int = NUM_RES_BLOCKS, attention: Sequence[bool] = ATTENTION_LEVELS) -> dict[str, str]:
    """diffusers module prefix -> the original latent-diffusion prefix, for our levels and blocks."""
    names, levels, index = dict(TOP_NAMES), len(attention), 1
    for level in range(levels):
        for block in range(res_blocks):
            names[f"down_blocks.{level}.resnets.{block}"] = f"input_blocks.{index}.0"
            names[f"down_blocks.{level}.attentions.{block}"] = f"input_blocks.{index}.1"
            index += 1
        names[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{index}.0.op"
        index += 1
    index = 0
    for level, has_attention in enumerate(reversed(attention)):
        for block in range(res_blocks + 1):
            names[f"up_blocks.{level}.resnets.{block}"] = f"output_blocks.{index}.0"
            names[f"up_blocks.{level}.attentions.{block}"] = f"output_blocks.{index}.1"
            index += 1
        names[f"up_blocks.{level}.upsamplers.0.conv"] = f"output_blocks.{index - 1}.{1 + has_attention}.conv"
    return names


def rename_unet(state: dict[str, torch.Tensor], res_blocks: int = NUM_RES_BLOCKS,
                attention: Sequence[bool] = ATTENTION_LEVELS) -> dict[str, torch.Tensor]:
    """diffusers keys -> ComfyUI keys under `model.diffusion_model.`; a key without a rule raises KeyError."""
    names = module_names(res_blocks, attention)
    renamed = {}
    for key, tensor in state.items():
        prefix = next((p for p in names if key.startswith(p + ".")), None)
        if prefix is None:
            raise KeyError(f"UNet key: got {key!r}, expected one below {sorted(names)}")
        rest = key[len(prefix) + 1:]
        if ".resnets." in prefix:
            module, _, tail = rest.partition(".")
            rest = f"{RESNET_NAMES[module]}.{tail}"
        renamed[f"model.diffusion_model.{names[prefix]}.{rest}"] = tensor
    return renamed


def rename_text(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """transformers' CLIPTextModel keys -> ComfyUI keys."""
    return {f"cond_stage_model.transformer.text_model.{key.removeprefix('text_model.')}": tensor
            for key, tensor in state.items() if not key.endswith("position_ids")}


def autoencoder_tensors(transform: Transform, decoder: Decoder) -> dict[str, torch.Tensor]:
    """TAESD's tensors; a narrow decoder is embedded in the 64-channel one."""
    state = {f"first_stage_model.taesd_encoder.{k}": v for k, v in build_encoder(transform).state_dict().items()}
    wide = widen(decoder, LATENT_CHANNELS).state_dict()
    state |= {f"first_stage_model.taesd_decoder.{k}": v for k, v in wide.items()}
    state["first_stage_model.vae_scale"] = torch.tensor(VAE_SCALE)
    state["first_stage_model.vae_shift"] = torch.tensor(0.0)
    return state


def checkpoint_tensors(generator: Generator, transform: Transform, decoder: Decoder) -> dict[str, torch.Tensor]:
    """Every tensor of the checkpoint in float16."""
    text = expand_encoder(generator.text.state_dict(), generator.vocabulary)
    state = rename_unet(file_state(generator.unet)) | rename_text(text) | autoencoder_tensors(transform, decoder)
    return {key: tensor.detach().to(torch.float16).contiguous().clone() for key, tensor in state.items()}


def write_checkpoint(tensors: dict[str, torch.Tensor], path: Path = CHECKPOINT,
                     facts: dict[str, object] | None = None) -> None:
    """Writes the file under another name and renames it: readers always find a whole one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    save_file(tensors, part, metadata={"pocket": json.dumps(facts or {}, sort_keys=True)})
    if part.stat().st_size > MAX_BYTES:
        raise ValueError(f"checkpoint: got {part.stat().st_size} bytes, expected at most {MAX_BYTES}")
    part.replace(path)


def export(work: Path, path: Path = CHECKPOINT) -> None:
    """Exports what is in the working folder; a network not trained yet goes out with random weights."""
    transform = prepare_transform(work)
    decoder = load_decoder(work) if (work / "decoder.pt").exists() else Decoder(LATENT_CHANNELS)
    has_generator = (work / "generator.pt").exists()
    generator = load_ema(work) if has_generator else build_generator()
    step = torch.load(work / "generator.pt", weights_only=True)["step"] if has_generator else 0
    facts = {"generator_steps": step, "output_scale": output_scale(generator.unet)}
    write_checkpoint(checkpoint_tensors(generator, transform, decoder), path, facts)

"""The x4 upscaler's network: Stable Diffusion's own from diffusers, two CPU-friendly replacements of its slow
operations, a start that answers with a linear guess, and the names that ComfyUI reads.
"""

from __future__ import annotations

from typing import Final

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from .config import TIMESTEPS
from .upscaler_space import (
    ATTENTION_LEVELS,
    BETA_END,
    BETA_START,
    LATENT_CHANNELS,
    MODEL_CHANNELS,
    NUM_RES_BLOCKS,
    unet_settings,
)

FILE_EPSILON: Final = 1e-5
"""Epsilon of every GroupNorm in ComfyUI's UNet (torch's default)."""
TRAINED_EPSILON: Final = 16.0
"""Epsilon of the last GroupNorm while training, where what it normalises has a variance of about 1. So large, the
norm is nearly linear: brightness and how strong the noise is stay the network's to say."""
OUTPUT_SCALE: Final = (FILE_EPSILON / TRAINED_EPSILON) ** 0.5
"""`scale_output` factor of the exported file, about 8e-4: well above float16's subnormal numbers."""
MEANS: Final = 3
"""Latent channels that hold the mean of a block: the strongest ones."""
SILU_SHIFT: Final = 6.0
"""silu(x + 6) is x + 6, to about a tenth, for all x above -4."""

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


def alphas_cumprod(levels: int = TIMESTEPS) -> Tensor:
    """SD's scaled-linear form between the upscaler's ends, for the latents and for the low-res picture, (1000,)."""
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, levels, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0).float()


def build_unet() -> UNet2DConditionModel:
    """The network, its last GroupNorm nearly linear: brightness and noise strength are the network's to say."""
    unet = use_cpu_operations(UNet2DConditionModel(**unet_settings()))
    unet.conv_norm_out.eps = TRAINED_EPSILON
    return unet


class PlainAttention:
    """softmax(q k^T / sqrt(d)) v written out: its backward is faster on a CPU than the fused kernel's."""

    def __call__(self, attn: nn.Module, hidden_states: Tensor,
                 encoder_hidden_states: Tensor | None = None, **unused: object) -> Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        b, n, _ = hidden_states.shape
        q, k, v = (project(x).view(b, x.shape[1], attn.heads, -1).transpose(1, 2) for project, x in
                   ((attn.to_q, hidden_states), (attn.to_k, context), (attn.to_v, context)))
        weights = (q @ k.transpose(-1, -2) * attn.scale).softmax(-1)
        out = (weights @ v).transpose(1, 2).reshape(b, n, -1)
        return attn.to_out[0](out)


class FastGroupNorm(nn.GroupNorm):
    """GroupNorm by mean and variance over a view: the native backward is slow on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        b, c = x.shape[:2]
        grouped = x.reshape(b, self.num_groups, -1)
        variance, mean = torch.var_mean(grouped, -1, correction=0, keepdim=True)
        shape = (1, c, *([1] * (x.ndim - 2)))
        normal = ((grouped - mean) * (variance + self.eps).rsqrt()).view(b, c, *x.shape[2:])
        return torch.addcmul(self.bias.view(shape), normal, self.weight.view(shape))


def use_cpu_operations(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """Swaps attention and GroupNorm for the forms above; same function, same parameters."""
    unet.set_attn_processor(PlainAttention())
    for module in unet.modules():
        if type(module) is nn.GroupNorm:
            module.__class__ = FastGroupNorm
    return unet


@torch.no_grad()
def start_from_low_res(unet: UNet2DConditionModel, weight: Tensor, bias: Tensor) -> None:
    """Initial weights with which the network answers v = -z, z being the linear guess from the low-res picture, and
    half of the (normalised) difference d of noisy latents and guess.

    conv_in makes d and the guess; the last block's shortcut passes the guess, its residual branch d, whose size time
    may then scale. The blocks' means leave as pairs (y, -y), each one group of the last GroupNorm: their mean is zero,
    so that brightness gets through. Biases keep every SiLU on these ways in its linear part. Measured here: from the
    usual start 900 steps had neither learned the guess nor to take noise away.

    Args:
        unet: from `build_unet`.
        weight: of the guess, (24, 3, 3, 3) on low-res pixels.
        bias: of the guess, (24,).
    """
    block, n = unet.up_blocks[-1].resnets[-1], LATENT_CHANNELS
    skip = block.conv1.in_channels - MODEL_CHANNELS
    unet.conv_in.weight[:2 * n] = 0
    unet.conv_in.weight[range(n), range(n), 1, 1] = 1
    unet.conv_in.weight[:n, n:], unet.conv_in.bias[:n] = -weight, -bias  # d
    unet.conv_in.weight[n:2 * n, n:], unet.conv_in.bias[n:2 * n] = weight, bias  # the guess
    for layer in (unet.conv_out, block.conv_shortcut):
        layer.weight.zero_()
        layer.bias.zero_()
    block.conv1.weight[:n] = 0
    block.conv1.weight[range(n), range(skip, skip + n), 1, 1] = 1
    block.conv1.bias[:n] = -SILU_SHIFT
    block.norm1.bias[skip:skip + n] = SILU_SHIFT
    block.time_emb_proj.weight *= 0.1
    block.time_emb_proj.bias[:] = torch.tensor([-0.5, SILU_SHIFT]).repeat_interleave(MODEL_CHANNELS)  # scale, shift
    block.conv2.weight *= 0.1
    block.conv2.bias.zero_()
    places = [[(2 * k, 1.0), (2 * k + 1, -1.0)] for k in range(MEANS)]  # the means: pairs
    places += [[(2 * MEANS + k, 1.0)] for k in range(n - MEANS)]
    for latent, channels in enumerate(places):
        for channel, sign in channels:
            block.conv_shortcut.weight[channel, skip + n + latent] = -sign
            block.conv2.weight[channel] = 0
            block.conv2.weight[channel, latent, 1, 1] = sign
            block.conv2.bias[channel] = -sign * SILU_SHIFT
            unet.conv_out.weight[latent, channel, 1, 1] = sign / len(channels)
        unet.conv_out.bias[latent] = -SILU_SHIFT * sum(sign for _, sign in channels) / len(channels)
    unet.conv_norm_out.weight.fill_(TRAINED_EPSILON**0.5)
    unet.conv_norm_out.bias.fill_(SILU_SHIFT)


@torch.no_grad()
def scale_output(unet: UNet2DConditionModel, factor: float) -> None:
    """Multiplies what feeds the last GroupNorm, and its epsilon by factor^2: not a bit of the function changes.

    GN(c h; c^2 eps) = GN(h; eps). Training keeps h of about unit size (an optimiser's steps have a size of their
    own) and a large epsilon; ComfyUI's GroupNorm has `FILE_EPSILON`, so the exported h is small.
    """
    block = unet.up_blocks[-1].resnets[-1]
    for layer in (block.conv_shortcut, block.conv2):
        layer.weight.mul_(factor)
        layer.bias.mul_(factor)
    unet.conv_norm_out.eps *= factor**2


def module_names() -> dict[str, str]:
    """diffusers module prefix -> the original latent-diffusion prefix, for our levels and blocks."""
    names, levels, index = dict(TOP_NAMES), len(ATTENTION_LEVELS), 1
    for level in range(levels):
        for block in range(NUM_RES_BLOCKS):
            names[f"down_blocks.{level}.resnets.{block}"] = f"input_blocks.{index}.0"
            names[f"down_blocks.{level}.attentions.{block}"] = f"input_blocks.{index}.1"
            index += 1
        names[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{index}.0.op"
        index += 1
    index = 0
    for level, has_attention in enumerate(reversed(ATTENTION_LEVELS)):
        for block in range(NUM_RES_BLOCKS + 1):
            names[f"up_blocks.{level}.resnets.{block}"] = f"output_blocks.{index}.0"
            names[f"up_blocks.{level}.attentions.{block}"] = f"output_blocks.{index}.1"
            index += 1
        names[f"up_blocks.{level}.upsamplers.0.conv"] = f"output_blocks.{index - 1}.{1 + has_attention}.conv"
    return names


def rename_unet(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """diffusers keys -> ComfyUI keys under `model.diffusion_model.`; a key without a rule raises KeyError."""
    names = module_names()
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

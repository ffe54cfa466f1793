"""The denoiser: a diffusers UNet of our sizes, and two CPU-friendly replacements of its slow operations."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from torch import nn

from .config import (
    ATTENTION_LEVELS,
    CHANNEL_MULT,
    CONTEXT_DIM,
    DOWNSCALE,
    FILE_EPSILON,
    LATENT_CHANNELS,
    MODEL_CHANNELS,
    NUM_HEAD_CHANNELS,
    NUM_RES_BLOCKS,
    SIZE,
    TRAINED_EPSILON,
)


def build_unet() -> UNet2DConditionModel:
    """SD's UNet with few channels; attention where `ATTENTION_LEVELS` says so, and in the middle."""
    channels = tuple(MODEL_CHANNELS * m for m in CHANNEL_MULT)
    down = tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in ATTENTION_LEVELS)
    up = tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(ATTENTION_LEVELS))
    return UNet2DConditionModel(
        sample_size=SIZE // DOWNSCALE, in_channels=LATENT_CHANNELS, out_channels=LATENT_CHANNELS,
        block_out_channels=channels, layers_per_block=NUM_RES_BLOCKS, down_block_types=down, up_block_types=up,
        cross_attention_dim=CONTEXT_DIM, norm_num_groups=32,
        attention_head_dim=tuple(c // NUM_HEAD_CHANNELS for c in channels),  # diffusers: the number of heads
    )


class PlainAttention:
    """softmax(q k^T / sqrt(d)) v written out: its backward is faster on a CPU than the fused kernel's."""

    def __call__(self, attn: nn.Module, hidden_states: torch.Tensor,
                 encoder_hidden_states: torch.Tensor | None = None, **unused: object) -> torch.Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        b, n, _ = hidden_states.shape
        q, k, v = (project(x).view(b, x.shape[1], attn.heads, -1).transpose(1, 2) for project, x in
                   ((attn.to_q, hidden_states), (attn.to_k, context), (attn.to_v, context)))
        weights = (q @ k.transpose(-1, -2) * attn.scale).softmax(-1)
        out = (weights @ v).transpose(1, 2).reshape(b, n, -1)
        return attn.to_out[0](out)


class FastGroupNorm(nn.GroupNorm):
    """GroupNorm by mean and variance over a view: the native backward is slow on a CPU."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
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


def set_output_norm(unet: UNet2DConditionModel, epsilon: float = TRAINED_EPSILON) -> None:
    """Sets the last GroupNorm's epsilon; `scale_output` gives the same function with the file's epsilon."""
    unet.conv_norm_out.eps = epsilon


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


def file_state(unet: UNet2DConditionModel) -> dict[str, torch.Tensor]:
    """The state dict of the same function with `FILE_EPSILON` in the last GroupNorm; the network stays as it is."""
    factor = output_scale(unet)
    last = f"up_blocks.{len(unet.up_blocks) - 1}.resnets.{len(unet.up_blocks[-1].resnets) - 1}."
    fed = (f"{last}conv_shortcut.", f"{last}conv2.")
    return {key: tensor * factor if key.startswith(fed) else tensor for key, tensor in unet.state_dict().items()}


def output_scale(unet: UNet2DConditionModel) -> float:
    """The `scale_output` factor that a file of this network needs; 1 where it has the file's epsilon already."""
    return float((FILE_EPSILON / unet.conv_norm_out.eps) ** 0.5)


def start_from_identity(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """Initial weights with which the UNet answers nearly eps = x, and residuals add zero.

    At high noise the input is nearly the noise, so a noise predictor must first learn to copy, to within the tiny
    signal: measured here, 450 steps from the usual start had not got there. The copy is written in instead:
    conv_in passes x on, the last skip connection makes pairs (x, -x), each pair one group of the last GroupNorm, and
    conv_out subtracts them: silu(a) - silu(-a) = a. The norm's epsilon is large, so it passes a nearly as it is.

    Source: zero residuals as in Dhariwal and Nichol 2021 (ADM); the copy does what EDM's c_skip does (Karras 2022).
    """
    for name, module in unet.named_modules():
        if name.endswith((".conv2", ".proj_out")) or name == "conv_out":
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    shortcut = unet.up_blocks[-1].resnets[-1].conv_shortcut
    with torch.no_grad():
        for c in range(LATENT_CHANNELS):
            unet.conv_in.weight[c] = 0
            unet.conv_in.bias[c] = 0
            unet.conv_in.weight[c, c, 1, 1] = 1
            for channel, sign in ((2 * c, 1), (2 * c + 1, -1)):
                shortcut.weight[channel] = 0
                shortcut.bias[channel] = 0
                shortcut.weight[channel, shortcut.in_channels - MODEL_CHANNELS + c] = sign
                unet.conv_out.weight[c, channel, 1, 1] = sign
        set_output_norm(unet)
        unet.conv_norm_out.weight.mul_((1 + TRAINED_EPSILON) ** 0.5)  # for an x of unit variance
    return unet

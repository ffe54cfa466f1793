"""The denoiser: Stable Diffusion's UNet at pocket widths, in plain torch, under the very keys that ComfyUI reads.

Attention is written out on a CPU, where its backward pass is faster than the fused kernel's; it is the same function.

Source: Rombach et al. 2022 (latent diffusion); Salimans and Ho 2022 for the velocity that it predicts.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from .config import CHANNEL_MULT, CONTEXT_DIM, HEAD_CHANNELS, LATENT_CHANNELS, MODEL_CHANNELS, TRANSFORMER_DEPTH

TIME_DIM = 4 * MODEL_CHANNELS


class GroupNorm(nn.GroupNorm):
    """Normalisation over each of 32 groups of channels; (B, C, H, W)."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(32, channels, eps=eps)


class Attention(nn.Module):
    """softmax(q k^T / sqrt(d)) v over heads of `HEAD_CHANNELS`.

    Of fewer contexts (P, T, D) than inputs (B, N, C), each serves B / P inputs in a row: keys and values are made once.
    """

    def __init__(self, channels: int, context: int) -> None:
        super().__init__()
        self.heads = channels // HEAD_CHANNELS
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context, channels, bias=False)
        self.to_v = nn.Linear(context, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels))
        self.watch: list[Tensor] | None = None
        """A list here gets the probabilities (P, heads, B / P * N, T) of each call: how masks are read."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        context = x if context is None else context
        queries = x.reshape(len(context), -1, x.shape[-1])  # (P, B / P * N, C)
        q, k, v = (project(y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
                   for project, y in ((self.to_q, queries), (self.to_k, context), (self.to_v, context)))
        if q.is_cuda and self.watch is None:
            out = functional.scaled_dot_product_attention(q, k, v)
        else:
            weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
            if self.watch is not None:
                self.watch.append(weights)
            out = weights.to(v.dtype) @ v
        return self.to_out(out.transpose(1, 2).reshape(x.shape))


class GatedLinear(nn.Module):
    """GEGLU: a gelu(b), both halves of one projection."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * functional.gelu(gate)


class FeedForward(nn.Module):
    """Two layers with a gated middle of four times the width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GatedLinear(channels, 4 * channels), nn.Identity(), nn.Linear(4 * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention to the prompt, feed-forward; each added to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attn1, self.attn2 = Attention(channels, channels), Attention(channels, CONTEXT_DIM)
        self.ff = FeedForward(channels)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """A transformer over the cells of a feature map; its answer starts at zero."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.norm = GroupNorm(channels, eps=1e-6)
        self.proj_in, self.proj_out = nn.Conv2d(channels, channels, 1), zeroed(nn.Conv2d(channels, channels, 1))
        self.transformer_blocks = nn.ModuleList(TransformerBlock(channels) for _ in range(depth))

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        _, _, h, w = x.shape
        cells = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)  # (B, h w, C)
        for block in self.transformer_blocks:
            cells = block(cells, context)
        return x + self.proj_out(cells.transpose(1, 2).unflatten(2, (h, w)))


class ResBlock(nn.Module):
    """Two convolutions with the time added in between; its answer starts at zero."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(GroupNorm(n_in), nn.SiLU(), nn.Conv2d(n_in, n_out, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(TIME_DIM, n_out))
        self.out_layers = nn.Sequential(GroupNorm(n_out), nn.SiLU(), nn.Identity(),
                                        zeroed(nn.Conv2d(n_out, n_out, 3, padding=1)))
        self.skip_connection = nn.Identity() if n_in == n_out else nn.Conv2d(n_in, n_out, 1)

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        inner = self.in_layers(x) + self.emb_layers(time)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(inner)


class Downsample(nn.Module):
    """Half the size by a strided convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    """Twice the size, nearest, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        return self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))


class Entry(nn.Conv2d):
    """The first convolution, callable like every other layer."""

    def forward(self, x: Tensor, *unused: Tensor) -> Tensor:
        return super().forward(x)


class UNet(nn.Module):
    """(B, 16, h, w) noisy latents, (B,) timesteps, (B or B / k, T, 128) prompt -> (B, 16, h, w) velocity.

    Args:
        mult: width of each level, in `MODEL_CHANNELS`.
    """

    def __init__(self, mult: tuple[int, ...] = CHANNEL_MULT) -> None:
        super().__init__()
        widths = [MODEL_CHANNELS * m for m in mult]
        levels = len(widths)
        self.time_embed = nn.Sequential(nn.Linear(MODEL_CHANNELS, TIME_DIM), nn.SiLU(), nn.Linear(TIME_DIM, TIME_DIM))
        down: list[list[nn.Module]] = [[Entry(LATENT_CHANNELS, widths[0], 3, padding=1)]]
        skips, here = [widths[0]], widths[0]
        for level, width in enumerate(widths):
            down.append([ResBlock(here, width), SpatialTransformer(width, TRANSFORMER_DEPTH[level])])
            here = width
            skips.append(here)
            if level < levels - 1:
                down.append([Downsample(here)])
                skips.append(here)
        middle = [ResBlock(here, here), SpatialTransformer(here, TRANSFORMER_DEPTH[-1]), ResBlock(here, here)]
        up: list[list[nn.Module]] = []
        for level, width in reversed(list(enumerate(widths))):
            for block in range(2):
                up.append([ResBlock(here + skips.pop(), width), SpatialTransformer(width, TRANSFORMER_DEPTH[level])])
                here = width
                if block == 1 and level > 0:
                    up[-1].append(Upsample(here))
        self.input_blocks = nn.ModuleList(nn.ModuleList(block) for block in down)
        self.middle_block = nn.ModuleList(middle)
        self.output_blocks = nn.ModuleList(nn.ModuleList(block) for block in up)
        self.out = nn.Sequential(GroupNorm(here), nn.SiLU(), zeroed(nn.Conv2d(here, LATENT_CHANNELS, 3, padding=1)))

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
        time = self.time_embed(timestep_embedding(timesteps))
        kept = []
        for block in self.input_blocks:
            x = through(block, x, time, context)
            kept.append(x)
        x = through(self.middle_block, x, time, context)
        for block in self.output_blocks:
            x = through(block, torch.cat([x, kept.pop()], dim=1), time, context)
        return self.out(x)


def through(layers: nn.ModuleList, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
    """One block's layers after each other."""
    for layer in layers:
        x = layer(x, time, context)
    return x


def timestep_embedding(timesteps: Tensor, dim: int = MODEL_CHANNELS) -> Tensor:
    """cos and sin of t / 10000^(i / half), (B, dim)."""
    half = dim // 2
    rates = torch.exp(-math.log(10000) * torch.arange(half, device=timesteps.device, dtype=torch.float32) / half)
    angles = timesteps[:, None].float() * rates
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with all weights zero: a residual that starts at nothing."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def cross_attentions(unet: UNet) -> list[Attention]:
    """The cross-attentions, first to last."""
    return [module.attn2 for module in unet.modules() if isinstance(module, TransformerBlock)]

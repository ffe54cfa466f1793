"""The autoencoder's structure: TAESD, with the state-dict keys that ComfyUI's loader recognises.

Source: madebyollin's Tiny AutoEncoder for Stable Diffusion. Deviation: widths per resolution are free, so that
a narrow decoder can be trained cheaply and then embedded in the 64-channel one without changing a bit of its function.
"""

from __future__ import annotations

import torch
from torch import nn

WIDTH = 64
"""Channels of every TAESD layer."""
Widths = tuple[int, int, int, int]
"""Channels at 1/8, 1/4, 1/2 and full resolution."""
FULL_WIDTHS: Widths = (WIDTH, WIDTH, WIDTH, WIDTH)


def conv(n_in: int, n_out: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    """A 3 x 3 convolution that keeps the size at stride 1."""
    return nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1, bias=bias)


class SoftClamp(nn.Module):
    """x -> 3 tanh(x / 3): latents far outside the known range cannot burn the picture."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x / 3) * 3


class Block(nn.Module):
    """x -> relu(x + f(x)) with three convolutions; f starts at zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(conv(width, width), nn.ReLU(), conv(width, width), nn.ReLU(), conv(width, width))
        nn.init.zeros_(self.conv[4].weight)
        nn.init.zeros_(self.conv[4].bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.conv(x))


class Encoder(nn.Sequential):
    """(B, 3, H, W) in [0, 1] -> (B, C, H/8, W/8)."""

    def __init__(self, latent_channels: int) -> None:
        stages = [conv(3, WIDTH), Block(WIDTH)]
        for _ in range(3):
            stages += [conv(WIDTH, WIDTH, stride=2, bias=False), *(Block(WIDTH) for _ in range(3))]
        super().__init__(*stages, conv(WIDTH, latent_channels))


class Decoder(nn.Sequential):
    """(B, C, H/8, W/8) -> (B, 3, H, W), about [0, 1]."""

    def __init__(self, latent_channels: int, widths: Widths = FULL_WIDTHS) -> None:
        stages: list[nn.Module] = [SoftClamp(), conv(latent_channels, widths[0]), nn.ReLU()]
        for here, above in zip(widths, widths[1:], strict=False):
            stages += [*(Block(here) for _ in range(3)), nn.Upsample(scale_factor=2), conv(here, above, bias=False)]
        super().__init__(*stages, Block(widths[3]), conv(widths[3], 3))
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.weight.abs().sum() > 0:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.normal_(self[-1].weight, std=0.02)
        nn.init.constant_(self[-1].bias, 0.5)

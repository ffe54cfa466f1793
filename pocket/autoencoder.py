"""The autoencoder: TAESD's structure, narrow, with a power-constrained, noisy code.

The encoder's convolutions overlap, so that a code may change gradually where an edge crosses cells. The code is held at
unit power and gets noise on its way to the decoder, which is the rate term of a VAE whose posterior has a fixed
variance: what a cell says must survive a generator's errors. Half-size codes must decode to half-size pictures, which
keeps the code smooth in space.

Source: TAESD (madebyollin); Kingma and Welling 2014 for the rate; Kouzelis et al. 2025 (EQ-VAE) for the scale term.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from .config import LATENT_CHANNELS
from .image_text import CHECKPOINT
from .taesd import Block, Decoder, Encoder, conv

ENCODER_PREFIX: Final = "first_stage_model.taesd_encoder."
DECODER_PREFIX: Final = "first_stage_model.taesd_decoder."
VAE_SCALE: Final = 0.25
"""Raw encoder output per unit of model latent: keeps the decoder's soft clamp in its linear part."""

ENCODER_WIDTHS: Final = (16, 24, 64, 64)
"""Channels at full, 1/2, 1/4 and 1/8 resolution."""
DECODER_WIDTHS: Final = (64, 64, 32, 24)
"""Channels at 1/8, 1/4, 1/2 and full resolution."""
ENCODER_BLOCKS: Final[dict[int, int]] = {1: 0, 3: 1, 7: 2, 11: 3, 12: 3}
"""Places of residual blocks in TAESD's sequence (of ten), with the level of their width."""
MAX_NOISE: Final = 0.2
"""Deviation of the code's noise in training is uniform from 0 to this, of a code of unit power."""
SCALE_WEIGHT: Final = 0.25


def narrow_encoder() -> nn.Sequential:
    """(B, 3, H, W) in [0, 1] -> (B, C, H/8, W/8); the modules' names are TAESD's places."""
    w = ENCODER_WIDTHS
    layers: dict[int, nn.Module] = {0: conv(3, w[0]), 2: conv(w[0], w[1], 2, False), 6: conv(w[1], w[2], 2, False),
                                    10: conv(w[2], w[3], 2, False), 14: conv(w[3], LATENT_CHANNELS)}
    layers |= {place: Block(w[level]) for place, level in ENCODER_BLOCKS.items()}
    return nn.Sequential(OrderedDict((str(place), layers[place]) for place in sorted(layers)))


class Autoencoder(nn.Module):
    """Encoder and decoder around a code of unit power."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = narrow_encoder()
        self.decoder = Decoder(LATENT_CHANNELS, DECODER_WIDTHS)
        self.register_buffer("power", torch.ones(()))
        """Running mean square of the encoder's raw answer."""

    def encode(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> latents (B, C, H/8, W/8) of mean square 1 over the mix of pictures."""
        return self.encoder(pictures) * self.power.rsqrt()

    def decode(self, latents: Tensor) -> Tensor:
        """Latents -> (B, 3, 8 h, 8 w), about [0, 1]."""
        return self.decoder(latents * VAE_SCALE)

    @torch.no_grad()
    def through(self, pictures: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] as they come back."""
        return torch.cat([self.decode(self.encode(part)).clamp(0, 1) for part in pictures.split(50)])

    def noisy_code(self, pictures: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """Training's code: the batch's own power is divided out, noise of deviation sigma (B, 1, 1, 1) is added."""
        raw = self.encoder(pictures)
        power = raw.float().square().mean()
        with torch.no_grad():
            self.power.lerp_(power.detach(), 0.02)
        return raw * power.rsqrt() + sigma * noise


def start_from_published(autoencoder: Autoencoder) -> Autoencoder:
    """The committed file's encoder and decoder: training again goes on from them."""
    tensors = load_file(CHECKPOINT)
    for narrow, prefix in ((autoencoder.encoder, ENCODER_PREFIX), (autoencoder.decoder, DECODER_PREFIX)):
        narrow.load_state_dict({key: tensors[prefix + key][tuple(slice(n) for n in value.shape)].float()
                                for key, value in narrow.state_dict().items()})
    with torch.no_grad():
        autoencoder.encoder[-1].weight.mul_(1 / VAE_SCALE)
        autoencoder.encoder[-1].bias.mul_(1 / VAE_SCALE)
    return autoencoder


def reconstruction_loss(output: Tensor, target: Tensor) -> Tensor:
    """0.5 L1 + 4 MSE + 0.25 L1 of the picture gradients; (B, 3, H, W) each, pictures in [0, 1]."""
    error = output.float() - target
    dx, dy = error[..., 1:] - error[..., :-1], error[..., 1:, :] - error[..., :-1, :]
    return 0.5 * error.abs().mean() + 4 * error.square().mean() + 0.25 * (dx.abs().mean() + dy.abs().mean())


def autoencoder_loss(autoencoder: Autoencoder, pictures: Tensor, noise: Tensor, sigma: Tensor,
                     has_scale_term: bool = True) -> Tensor:
    """Reconstruction through the noisy code, and of half-size pictures from half-size codes.

    Args:
        pictures: (B, 3, H, W) in [0, 1].
        noise: (B, C, H/8, W/8), unit normal.
        sigma: (B, 1, 1, 1), the noise's deviation for each picture.
    """
    code = autoencoder.noisy_code(pictures, noise, sigma)
    loss = reconstruction_loss(autoencoder.decode(code), pictures)
    if not has_scale_term:
        return loss
    half = autoencoder.decode(functional.avg_pool2d(code, 2))
    return loss + SCALE_WEIGHT * reconstruction_loss(half, functional.avg_pool2d(pictures, 2))


def wide_state(narrow: nn.Module, wide: nn.Module) -> dict[str, Tensor]:
    """The narrow network's tensors inside the wide one's shapes, zeros elsewhere: the same function.

    A missing block is the identity, because what enters a block is never negative.
    """
    source, state = narrow.state_dict(), {}
    for key, target in wide.state_dict().items():
        grown = torch.zeros_like(target)
        if key in source:
            grown[tuple(slice(n) for n in source[key].shape)] = source[key].float()
        state[key] = grown
    return state


def taesd_tensors(autoencoder: Autoencoder) -> dict[str, Tensor]:
    """The checkpoint's autoencoder under ComfyUI's keys, in TAESD's full widths."""
    encoder = wide_state(autoencoder.encoder, Encoder(LATENT_CHANNELS))
    for key in ("14.weight", "14.bias"):
        encoder[key] = encoder[key] * (VAE_SCALE * autoencoder.power.rsqrt().cpu())
    decoder = wide_state(autoencoder.decoder, Decoder(LATENT_CHANNELS))
    state = {ENCODER_PREFIX + key: value for key, value in encoder.items()}
    state |= {DECODER_PREFIX + key: value for key, value in decoder.items()}
    return state | {"first_stage_model.vae_scale": torch.tensor(VAE_SCALE),
                    "first_stage_model.vae_shift": torch.tensor(0.0)}


def psnr(output: Tensor, target: Tensor) -> float:
    """Mean over pictures of -10 log10 MSE, (B, 3, H, W) in [0, 1]."""
    mse = (output.float().clamp(0, 1) - target).square().mean((1, 2, 3))
    return float((-10 * mse.log10()).mean())



"""The pocket upscaler in ComfyUI's own loaders: Stable Diffusion's x4 upscaler at other widths.

Only the latents are special: a cosine transform of 4 x 4 pixels stands where the VAE of the true one is. LATENT
sockets outside the sampler therefore carry pictures, as they do for ComfyUI's other pixel-space models.
"""

from __future__ import annotations

from typing import Any

from comfy import latent_formats, supported_models, supported_models_base
from torch import Tensor

from .. import upscaler_space as space


class PocketUpscalerLatent(latent_formats.LatentFormat):
    """Pictures (B, 3, 4 h, 4 w) outside, blocks (B, 24, h, w) inside; an empty latent is (B, any, h, w)."""

    latent_channels = space.LATENT_CHANNELS
    spacial_downscale_ratio = space.SCALE

    def process_in(self, latent: Tensor) -> Tensor:
        return space.pictures_to_latents(latent)

    def process_out(self, latent: Tensor) -> Tensor:
        return space.latents_to_pictures(latent)


class PocketUpscaler(supported_models.SD_X4Upscaler):
    """How ComfyUI recognises the pocket upscaler; network, conditions, prediction and schedule are the stock ones."""

    unet_config: dict[str, Any] = {
        "context_dim": space.CONTEXT_DIM,
        "model_channels": space.MODEL_CHANNELS,
        "in_channels": space.LATENT_CHANNELS + space.LOW_RES_CHANNELS,
        "use_linear_in_transformer": False,
        "adm_in_channels": None,
        "use_temporal_attention": False,
    }
    unet_extra_config = {"num_classes": space.NOISE_LEVELS, "num_heads": -1,
                         "num_head_channels": space.NUM_HEAD_CHANNELS, "use_scale_shift_norm": True}
    latent_format = PocketUpscalerLatent

    def clip_target(self, state_dict: dict[str, Any] | None = None) -> supported_models_base.ClipTarget | None:
        """None: the file has no text encoder; the pocket checkpoint's fits."""
        return None


def register_upscaler() -> None:
    """Let stock loaders know the pocket upscaler; it must come before the pocket model, whose widths it shares."""
    if not any(known.__name__ == PocketUpscaler.__name__ for known in supported_models.models):
        supported_models.models.insert(0, PocketUpscaler)

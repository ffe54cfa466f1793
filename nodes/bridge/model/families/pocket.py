"""The pocket models that come with the extension: Stable Diffusion's structure at other widths.

The widths are written out, so that the extension works where the pocket's folder is left out; tests compare them.
"""

from __future__ import annotations

from typing import Any

from comfy import model_base
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

from .record import Family, Resolution

CHANNELS, CONTEXT, SIZE = 64, 128, 96


def _recognises(base: Any) -> bool:
    """By the widths, which no stock model has."""
    config = getattr(base.model_config, "unet_config", {})
    return (type(base) is model_base.BaseModel and isinstance(base.diffusion_model, UNetModel)
            and (config.get("model_channels"), config.get("context_dim")) == (CHANNELS, CONTEXT))


FAMILY = Family(name="the pocket model", recognises=_recognises, has_cross_attention=True,
                resolutions=(Resolution(low=SIZE, high=SIZE),))

"""Stable Diffusion 1.x and 2.x."""

from __future__ import annotations

from typing import Any

from comfy import model_base
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

from . import pocket
from .record import Family, Resolution


def _recognises(base: Any) -> bool:
    """ComfyUI's plain model around a UNet, unless it is the pocket's."""
    return (type(base) is model_base.BaseModel and isinstance(base.diffusion_model, UNetModel)
            and not pocket.FAMILY.recognises(base))


FAMILY = Family(
    name="Stable Diffusion 1.x / 2.x", recognises=_recognises, has_cross_attention=True,
    resolutions=(Resolution(low=512, high=512, channels=320, context=768),
                 Resolution(low=768, high=768, channels=320, context=1024, is_v=True),
                 Resolution(low=512, high=512, channels=320, context=1024, is_v=False)),
    rigs={"sd15": "Stable Diffusion 1.5", "sd21": "Stable Diffusion 2.1 (768)"})

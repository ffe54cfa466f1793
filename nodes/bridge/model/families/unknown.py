"""Any other family: nothing is known of it, so that what can be asked of the network is asked."""

from __future__ import annotations

from typing import Any

from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

from .programs import is_read_by_diffusers, is_read_by_sd_scripts
from .record import Family


def unknown_family(base: Any) -> Family:
    """A record of the name of the model's class."""
    return Family(name=type(base).__name__, recognises=lambda other: type(other) is type(base), is_verified=False,
                  has_cross_attention=isinstance(base.diffusion_model, UNetModel),
                  is_read_by_diffusers=is_read_by_diffusers(base), is_read_by_sd_scripts=is_read_by_sd_scripts(base))

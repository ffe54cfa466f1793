"""SD3 and SD3.5."""

from __future__ import annotations

from comfy import model_base

from .record import Family, Resolution

FAMILY = Family(name="SD3", recognises=lambda base: type(base) is model_base.SD3, has_cross_attention=False,
                resolutions=(Resolution(low=1024, high=1024),), is_read_by_diffusers=False,
                rigs={"sd3": "SD3 medium", "sd35": "SD3.5 medium (second image attention)"})

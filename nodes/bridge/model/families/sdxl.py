"""SDXL: its refiner and models of other widths are unknown in resolution."""

from __future__ import annotations

from comfy import model_base

from .record import Family, Resolution

FAMILY = Family(name="SDXL", recognises=lambda base: type(base) is model_base.SDXL, has_cross_attention=True,
                resolutions=(Resolution(low=1024, high=1024, channels=320),), rigs={"sdxl": "SDXL"})

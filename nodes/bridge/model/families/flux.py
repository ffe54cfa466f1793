"""Flux.1."""

from __future__ import annotations

from comfy import model_base

from .record import Family, Resolution

FAMILY = Family(name="Flux", recognises=lambda base: type(base) is model_base.Flux, has_cross_attention=False,
                resolutions=(Resolution(low=512, high=1024),), rigs={"flux": "Flux dev"})

"""Stable Diffusion's x4 upscaler, the pocket's too. Its LoRA is trained for super-resolution, not of a text."""

from __future__ import annotations

from comfy import model_base

from .record import Family

FAMILY = Family(name="Stable Diffusion x4 upscaler", is_upscaler=True, has_cross_attention=True,
                recognises=lambda base: isinstance(base, model_base.SD_X4Upscaler), is_read_by_diffusers=False)

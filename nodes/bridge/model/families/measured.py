"""Families of which nothing need be known: asked as they are, they learn. docs/families.md has the figures."""

from __future__ import annotations

from typing import Any

from comfy import model_base

MEASURED = frozenset("""
    Anima AuraFlow Boogu Chroma ChromaRadiance CosmosT2IPredict2 ErnieImage Flux Flux2 FluxInpaint FluxSchnell
    HiDream HiDreamO1 HunyuanDiT HunyuanImage21 Ideogram4 JoyImage KOALA_1B Kandinsky5Image Krea2 Lens LongCatImage
    Lumina2 MageFlow Omnigen2 PixArtAlpha PixArtSigma PixelDiTT2I QwenImage SD15 SD15_instructpix2pix SD20 SD3 SDXL
    SDXLRefiner SSD1B Stable_Cascade_B Stable_Cascade_C WAN21_T2V ZImage ZImagePixelSpace
    """.split())
"""ComfyUI's classes of the families that `make families` found right."""


def is_measured(base: Any) -> bool:
    """Whether ComfyUI's own model of such a family is loaded, not another that was made of it."""
    return type(base).__module__ == model_base.__name__ and type(base.model_config).__name__ in MEASURED

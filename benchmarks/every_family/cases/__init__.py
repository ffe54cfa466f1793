"""Every text-to-image family in ComfyUI's list, by the kind of its network."""

from __future__ import annotations

from ..case import Case
from . import joint_attention, one_frame, other_transformers, pixel_space, unets

CASES: dict[str, Case] = (unets.CASES | joint_attention.CASES | other_transformers.CASES | one_frame.CASES
                          | pixel_space.CASES)

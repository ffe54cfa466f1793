"""Which attention layers of a loaded MODEL mix the branches."""

from __future__ import annotations

from typing import Any

from ...core.errors import InputError
from .branch_mixing import MixingSites
from .cross_attention import cross_attention_sites


def mixing_sites(model: Any) -> MixingSites:
    """The layers of the MODEL's network in which DCI mixes.

    Raises:
        InputError: for a MODEL without any that are known.
    """
    network = model.get_model_object("diffusion_model")
    found = cross_attention_sites(network)
    if found is None:
        raise InputError("model", f"{type(network).__name__}, which has no separate cross-attention layers",
                         "a UNet with cross-attention (SD 1.x, SD 2.x, SDXL)",
                         "Use such a model; in models with joint attention (Flux, SD3) DCI does not exist yet.")
    return found

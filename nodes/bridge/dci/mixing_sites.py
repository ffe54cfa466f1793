"""Which attention layers of a loaded MODEL mix the branches."""

from __future__ import annotations

from typing import Any

from ....core.errors import InputError
from .branch_mixing import MixingSites
from .cross_attention import cross_attention_sites
from .joint_attention import EXPERIMENTAL, JointAttentionSites, joint_attention_sites


def mixing_sites(model: Any) -> MixingSites:
    """The layers of the MODEL's network in which DCI mixes.

    Raises:
        InputError: for a MODEL without any that are known.
    """
    network = model.get_model_object("diffusion_model")
    found: MixingSites | None = cross_attention_sites(network) or joint_attention_sites(network)
    if found is None:
        raise InputError("model", f"{type(network).__name__}, whose attention DCI does not know",
                         "a UNet with cross-attention (SD 1.x, SD 2.x, SDXL), or SD3 or Flux (experimental)",
                         "Use such a model.")
    return found


def warnings_about(model: Any) -> tuple[str, ...]:
    """What to tell the user of a MODEL that `mixing_sites` accepts."""
    return (EXPERIMENTAL,) if isinstance(mixing_sites(model), JointAttentionSites) else ()

"""Which attention layers of a loaded MODEL mix the branches."""

from __future__ import annotations

from typing import Any

from ....core.errors import InputError
from .branch_mixing import MixingSites
from .cross_attention import cross_attention_sites
from .joint_attention import EXPERIMENTAL, JointAttentionSites, check_sites
from .model_look import look_at_model


def mixing_sites(model: Any) -> MixingSites:
    """The layers of the MODEL's network in which DCI mixes.

    Raises:
        InputError: for a MODEL without any.
    """
    network = model.get_model_object("diffusion_model")
    found = cross_attention_sites(network)
    if found is not None:
        return found
    return JointAttentionSites({site.name: site.scale for site in check_sites(network, look_at_model(model))})


def verdict(model: Any) -> str:
    """'works', or the words with which DCI refuses a MODEL."""
    try:
        mixing_sites(model)
    except InputError as refusal:
        return str(refusal)
    return "works"


def warnings_about(sites: MixingSites) -> tuple[str, ...]:
    """What to tell the user of a MODEL that has these sites."""
    return (EXPERIMENTAL,) if isinstance(sites, JointAttentionSites) else ()

"""Which family a MODEL is of, and what is known about it: verified training, who reads its LoRA files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from comfy import model_base
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

from ....core.errors import require
from ....pocket import config as pocket


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of models.

    Attributes:
        name: as its users say.
        has_cross_attention: whether text is read in layers of its own; otherwise image and text attend jointly.
        is_read_by_diffusers: whether `load_lora_weights` reads a LoRA of it; tests read it there.
        is_verified: whether tests train it at true structure.
    """

    name: str
    has_cross_attention: bool
    is_read_by_diffusers: bool = True
    is_verified: bool = True


STABLE_DIFFUSION = Family(name="Stable Diffusion 1.x / 2.x", has_cross_attention=True)
SDXL = Family(name="SDXL", has_cross_attention=True)
SD3 = Family(name="SD3", has_cross_attention=False, is_read_by_diffusers=False)
FLUX = Family(name="Flux", has_cross_attention=False)
FAMILIES = (STABLE_DIFFUSION, SDXL, SD3, FLUX)
"""What the tests verify."""


def family_of(model: Any) -> Family:
    """The family of a MODEL; one of the name of its class where no test knows it."""
    base, network = model.model, model.model.diffusion_model
    if type(base) is model_base.BaseModel and isinstance(network, UNetModel):
        return STABLE_DIFFUSION
    known = {model_base.SDXL: SDXL, model_base.SD3: SD3, model_base.Flux: FLUX}
    unknown = Family(name=type(base).__name__, has_cross_attention=isinstance(network, UNetModel), is_verified=False,
                     is_read_by_diffusers=False)
    return known.get(type(base), unknown)


def trained_at(model: Any) -> tuple[int, int] | None:
    """Lowest and highest resolution, in pixels, at which models of the MODEL's size were trained; None = unknown."""
    base, config = type(model.model), getattr(model.model.model_config, "unet_config", {})
    width, context = config.get("model_channels", 0), config.get("context_dim", 0)
    if family_of(model) is STABLE_DIFFUSION:
        is_v = model.model.model_type == model_base.ModelType.V_PREDICTION
        return {(320, 768): (512, 512), (320, 1024): (768, 768) if is_v else (512, 512),
                (pocket.MODEL_CHANNELS, pocket.CONTEXT_DIM): (96, 96)}.get((width, context))
    if base is model_base.SDXL and width == 320:
        return 1024, 1024
    return {model_base.SD3: (1024, 1024), model_base.Flux: (512, 1024)}.get(base)


def check_targets(model: Any, targets: str) -> None:
    """Raise `InputError` for layers that the family does not have."""
    family = family_of(model)
    require(targets != "cross_attention_kv" or family.has_cross_attention, "targets", "cross_attention_kv",
            f"layers that {family.name} has: its image and text attend jointly, in one projection to Q, K and V",
            "Use attention.")


def readers_in_family(model: Any, readers: Iterable[str]) -> list[str]:
    """Of the programs that read a kind of adapter file, those that read it for the MODEL's family."""
    known = family_of(model)
    return [reader for reader in readers if known.is_read_by_diffusers or not reader.startswith("diffusers")]


def family_warnings(model: Any) -> list[str]:
    """What a user of an unverified family should know."""
    family = family_of(model)
    if family.is_verified:
        return []
    names = ", ".join(known.name for known in FAMILIES)
    return [f"no test trains models of the kind {family.name}; verified are {names}. Look at the first previews"]

"""Which family a MODEL is of, and what is known about it. A file with a `FAMILY` put here is found by itself."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from typing import Any

from comfy import model_base

from .....core.errors import require
from .measured import is_measured
from .record import Family
from .unknown import unknown_family


def _discover() -> tuple[Family, ...]:
    """The record of every file in this folder, in the order of the files' names."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    return tuple(module.FAMILY for module in modules if hasattr(module, "FAMILY"))


FAMILIES = _discover()
"""Each is of models of its own: at most one recognises a MODEL."""


def family_of(model: Any) -> Family:
    """The family of a MODEL; one of the name of its class where none is known."""
    base = model.model
    return next((family for family in FAMILIES if family.recognises(base)), None) or unknown_family(base)


def trained_at(model: Any) -> tuple[int, int] | None:
    """Lowest and highest resolution, in pixels, at which models of the MODEL's size were trained; None = unknown."""
    config = getattr(model.model.model_config, "unet_config", {})
    is_v = getattr(model.model, "model_type", None) == model_base.ModelType.V_PREDICTION
    shape = config.get("model_channels", 0), config.get("context_dim", 0), is_v
    fitting = (known for known in family_of(model).resolutions if known.is_of(*shape))
    return next(((known.low, known.high) for known in fitting), None)


def check_targets(model: Any, targets: str) -> None:
    """Raise `InputError` for layers that the family does not have."""
    family = family_of(model)
    require(targets != "cross_attention_kv" or family.has_cross_attention, "targets", "cross_attention_kv",
            f"layers that {family.name} has: its image and text attend jointly, in one projection to Q, K and V",
            "Use attention.")


def programs_for_family(model: Any, programs: Iterable[str]) -> list[str]:
    """Of the programs that read a kind of adapter file, those that read it for the MODEL's family."""
    known = family_of(model)
    return [program for program in programs if program.startswith("ComfyUI")
            or (known.is_read_by_diffusers if program.startswith("diffusers") else known.is_read_by_sd_scripts)]


def family_warnings(model: Any) -> list[str]:
    """What a user of an unverified family should know."""
    family = family_of(model)
    if family.is_verified or is_measured(model.model):
        return []
    return [f"no test trains models of the kind {family.name}; docs/families.md lists those that are verified. Look "
            "at the first previews"]

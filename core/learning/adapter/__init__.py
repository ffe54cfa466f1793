"""What learns inside a network: adapters through peft, or the weights themselves."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import require
from ...model.contracts import Denoiser, TextEncoder
from .adapter import Adapter
from .begin_token import BeginTokenDetached, begin_token_paths
from .config import TARGETS, AdapterConfig
from .export import RANK_BY_TIMESTEP, programs_for_kind, programs_for_layers
from .frozen import Frozen
from .full_weights import FullWeights, trained_bytes
from .kinds import KINDS, Kind, is_linear
from .rank_by_timestep import RankByTimestep, active_ranks, remaining_time
from .targets import find_all_targets, find_targets, is_eight_bit

__all__ = ["KINDS", "RANK_BY_TIMESTEP", "TARGETS", "Adapter", "AdapterConfig", "BeginTokenDetached", "Frozen",
           "FullWeights", "Kind", "RankByTimestep", "active_ranks", "begin_token_paths", "find_all_targets",
           "find_targets", "is_eight_bit", "is_linear", "make_adapters", "programs_for_kind", "programs_for_layers",
           "remaining_time", "trained_bytes"]


def make_adapters(owners: Mapping[str, Denoiser | TextEncoder], configs: Mapping[str, AdapterConfig],
                  seed: int) -> dict[str, Adapter | FullWeights]:
    """What learns in each owner's module, or nothing at all where one of them cannot be made.

    Raises:
        InputError: a layer has no name in adapter files, or as for `Adapter` and `FullWeights`.
    """
    find_all_targets({name: owner.module for name, owner in owners.items()}, configs)
    made: dict[str, Adapter | FullWeights] = {}
    try:
        for name, owner in owners.items():
            made[name] = _make(owner, configs[name], seed)
            _check_names(made[name], owner.adapter_keys)
    except BaseException:
        for adapter in made.values():
            adapter.eject()
        raise
    return made


def _make(owner: Denoiser | TextEncoder, config: AdapterConfig, seed: int) -> Adapter | FullWeights:
    if config.is_full:
        return FullWeights(owner.module, config, owner.adapter_keys)
    return Adapter(owner.module, config, seed, getattr(owner, "device", None))


def _check_names(adapter: Adapter | FullWeights, keys: Mapping[str, str]) -> None:
    missing = [path for path in adapter.paths if path not in keys] if isinstance(adapter, Adapter) else []
    require(not missing, "targets", f"layer {missing[:1]}, which has no name in adapter files",
            "layers that other programs know", "Use attention.")

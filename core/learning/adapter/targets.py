"""Where adapters go: the layers that a config names, or the reason why one of them cannot take it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from ...errors import require
from ...patterns import matching
from .config import TARGETS, AdapterConfig, parse_block_ranks
from .kinds import KINDS, is_linear


def find_all_targets(modules: Mapping[str, nn.Module],
                     configs: Mapping[str, AdapterConfig]) -> dict[str, dict[str, nn.Module]]:
    """`find_targets` in each module.

    Raises:
        InputError: as there, or where an entry of block_ranks is found in none of the modules.
    """
    found = {name: find_targets(module, configs[name]) for name, module in modules.items()}
    for text in dict.fromkeys(configs[name].block_ranks for name in modules):
        paths = [path for name, module in modules.items() if configs[name].block_ranks == text
                 for path in _matching(module, configs[name])]
        _check_block_ranks(text, paths)
    return found


def find_targets(module: nn.Module, config: AdapterConfig) -> dict[str, nn.Module]:
    """The layers that learn, by path; for the kind "full" every module with parameters of its own.

    Raises:
        InputError: there is none, or one of them cannot take the adapter.
    """
    matched = _matching(module, config)
    ranks = {path: rank for path, rank in config.ranks_of(matched).items() if rank > 0}
    layers = {path: matched[path] for path in ranks}
    what = "layer" if config.targets == "all" else config.record.layers
    got = f"{config.targets!r}, which matches no {what} of {type(module).__name__}"
    expected = f"one of {', '.join(TARGETS)}, or a regular expression over module paths"
    require(bool(layers), "targets" if config.targets in TARGETS else "target_pattern", got, expected, "Use attention.")
    for path, layer in layers.items():
        _check_layer(path, layer, config, ranks[path])
    return layers


def is_eight_bit(parameter: nn.Parameter) -> bool:
    """Whether a weight is stored in 8 bits or less, or packed."""
    return parameter.is_floating_point() and parameter.element_size() == 1 or type(parameter.data) is not Tensor


def _matching(module: nn.Module, config: AdapterConfig) -> dict[str, nn.Module]:
    layers = {path: layer for path, layer in module.named_modules() if config.record.takes(layer)}
    return {path: layers[path] for path in config.find(layers)}


def _check_layer(path: str, layer: nn.Module, config: AdapterConfig, rank: int) -> None:
    if config.record.needs_whole_weights:
        packed = (any(is_eight_bit(parameter) for parameter in layer.parameters(recurse=False))
                  or is_linear(layer) and not isinstance(layer, nn.Linear))  # of a file with quantised layers
        others = ", ".join(kind.name for kind in KINDS.values() if not kind.needs_whole_weights)
        require(not packed, "adapter kind", f"{config.kind}, and layer {path} is stored in 8 bits",
                f"{others} for such a model", "Choose one of them, or load the model in fp16 or bf16.")
    config.record.check_rank(path, layer, rank)


def _check_block_ranks(text: str, paths: Iterable[str]) -> None:
    for part, found in matching("block_ranks", parse_block_ranks(text), paths, whole=False).items():
        require(bool(found), "block_ranks", f"{part!r}, which is in no trained layer's path", "parts of module paths",
                "Use for example input, middle or output in a Stable Diffusion UNet.")

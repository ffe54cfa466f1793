"""peft's layers around the base layers of a network: made, seeded without the global generator, kept in float32."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..data import generator_for
from .config import DORA, OFT, RSLORA, AdapterConfig

if TYPE_CHECKING:
    from peft import PeftConfig

NAME = "default"
_BASE = "base_layer."
_FROM_ZERO = ("lora_B", "lokr_w1", "hada_w2_b", "oft_R")
"""Tensors that start at zero, so that a new adapter changes nothing; the others as peft starts them."""
_MAGNITUDE = "lora_magnitude_vector"


def put_layers_into(module: nn.Module, base: Mapping[str, nn.Module], config: AdapterConfig) -> None:
    """Replace every base layer by peft's around it."""
    ranks = config.ranks_of(base)
    for rank in dict.fromkeys(ranks.values()):
        exact = "|".join(re.escape(path) for path, own in ranks.items() if own == rank)
        _inject(module, _peft_config(config, rank, exact))


def initialise(layer: nn.Module, seed: int, path: str) -> None:
    """Float32, and the start of this seed and path.

    Half precision and fp8 networks would give adapters of their own dtype: NaN within a few steps, or no kernel at all.
    """
    for name, parameter in named_tensors(layer):
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)
        if name.startswith(_MAGNITUDE):
            parameter.data.copy_(row_norms(base_weight(layer)).view_as(parameter))
        elif name.startswith(_FROM_ZERO):
            parameter.data.zero_()
        else:
            # The first of a layer's tensors has the path's plain stream.
            stream = f"adapter/{path}" + ("" if name.startswith("lora_A") else f"/{name}")
            start = torch.empty(parameter.shape)
            nn.init.kaiming_uniform_(start, a=math.sqrt(5), generator=generator_for(seed, stream, 0))
            parameter.data.copy_(start)


def named_tensors(layer: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """A peft layer's own tensors, such as `lora_A.weight` or `lokr_w1`, always in the same order."""
    for name, parameter in layer.named_parameters():
        if not name.startswith(_BASE):
            yield name.replace(f".{NAME}", ""), parameter


def base_weight(layer: nn.Module) -> Tensor:
    """The base layer's own weight in float32."""
    return layer.base_layer.weight.detach().float()  # type: ignore[union-attr, operator]


def row_norms(weight: Tensor) -> Tensor:
    """||W|| of every output row, (out,)."""
    return weight.flatten(1).norm(dim=1)


def _inject(module: nn.Module, peft_config: PeftConfig) -> None:
    from peft import inject_adapter_in_model  # takes seconds, which ComfyUI's start would wait

    attributes = dict(module.__dict__)
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():  # peft draws its own start
            warnings.simplefilter("ignore")
            inject_adapter_in_model(peft_config, module, adapter_name=NAME)
    finally:
        for name in module.__dict__.keys() - attributes.keys():  # peft leaves its config on the module
            del module.__dict__[name]


def _peft_config(config: AdapterConfig, rank: int, layers: str) -> PeftConfig:
    from peft import LoHaConfig, LoKrConfig, LoraConfig, OFTConfig

    if config.kind == "loha":
        return LoHaConfig(r=rank, alpha=_number(config.alpha), target_modules=layers)
    if config.kind == "lokr":
        return LoKrConfig(r=rank, alpha=_number(config.alpha), target_modules=layers)
    if config.kind == OFT:
        return OFTConfig(oft_block_size=rank, target_modules=layers, use_cayley_neumann=False)
    return LoraConfig(r=rank, lora_alpha=_number(config.alpha), target_modules=layers,
                      use_rslora=config.kind == RSLORA, use_dora=config.kind == DORA)


def _number(alpha: float) -> Any:
    """peft's annotations say int; its arithmetic takes any number."""
    return alpha

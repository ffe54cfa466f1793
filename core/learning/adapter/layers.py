"""peft's layers around the base layers of a network: made, seeded without the global generator, kept in float32."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from ...data.examples import generator_for
from .base_weight import NAME
from .config import AdapterConfig
from .kinds import Kind, is_linear

if TYPE_CHECKING:
    from peft import PeftConfig

_BASE = "base_layer."


def put_layers_into(module: nn.Module, base: Mapping[str, nn.Module], config: AdapterConfig) -> None:
    """Replace every base layer by peft's around it."""
    ranks = config.ranks_of(base)
    for rank in dict.fromkeys(ranks.values()):
        exact = "|".join(re.escape(path) for path, own in ranks.items() if own == rank)
        with _linear_to_peft(base.values()):
            _inject(module, config.record.peft_config(rank, config.alpha, exact))


def initialise(layer: nn.Module, kind: Kind, seed: int, path: str, device: torch.device | None) -> None:
    """Float32 on the device (None: the layer's own), and the start of this seed and path.

    Half precision and fp8 networks would give adapters of their own dtype: NaN within a few steps, or no kernel at all.
    """
    for name, parameter in named_tensors(layer):
        parameter.data = parameter.data.to(device or parameter.device, torch.float32)
        parameter.requires_grad_(True)
        start_of = next((start for prefix, start in kind.starts.items() if name.startswith(prefix)), None)
        if start_of is not None:
            parameter.data.copy_(torch.as_tensor(start_of(layer)).expand(parameter.numel()).view_as(parameter))
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


@contextmanager
def _linear_to_peft(layers: Iterable[nn.Module]) -> Iterator[None]:
    """Within the context linear layers of a class of their own, as in quantised networks, are torch's, too."""
    known = {layer: type(layer) for layer in layers if is_linear(layer) and not isinstance(layer, nn.Linear)}
    classes = {own: type(own.__name__, (own, nn.Linear), {}) for own in set(known.values())}
    for layer, own in known.items():
        layer.__class__ = classes[own]
    try:
        yield
    finally:
        for layer, own in known.items():
            layer.__class__ = own


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

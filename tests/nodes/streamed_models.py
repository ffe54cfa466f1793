"""A network on a device of another name than the memory, of which ComfyUI is told that a part fits: layers that it
streams are lent copies, as on a card, which are overwritten as soon as they are given back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import comfy.model_management
import comfy.ops
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.multiprocessing.reductions import StorageWeakRef

from comfyui_personalize.nodes.bridge.model.frozen_layers import can_stream

FITS = 0.3
"""Of the model."""


def lend(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What layers were lent whose weights ComfyUI left in memory."""
    log = SimpleNamespace(casts=[], in_memory=set())
    log.alive = lambda: [cast for cast in log.casts if not cast.expired()]
    cast, uncast, model_load = (comfy.ops.cast_bias_weight, comfy.ops.uncast_bias_weight,
                                comfy.model_management.LoadedModel.model_load)

    def is_in_memory(layer: Any) -> bool:
        is_real = not isinstance(layer.weight, FakeTensor)  # as estimates of memory have them
        return is_real and hasattr(layer, "prev_comfy_cast_weights") and layer.weight.data_ptr() in log.in_memory

    def lent(layer: Any, *args: Any, **kwargs: Any) -> Any:
        weight, *others = cast(layer, *args, **kwargs)
        if is_in_memory(layer):
            assert can_stream(layer)
            weight = weight.clone()
            log.casts.append(StorageWeakRef(getattr(weight, "_qdata", weight).untyped_storage()))
        return weight, *others

    def give_back(layer: Any, weight: Any, bias: Any, stream: Any) -> None:
        uncast(layer, weight, bias, stream)
        if is_in_memory(layer):
            getattr(weight, "_qdata", weight).fill_(float("nan"))

    def load_a_part(loaded: Any, lowvram_model_memory: float = 0, force_patch_weights: bool = False) -> Any:
        return model_load(loaded, FITS * loaded.model.model_size(), force_patch_weights)

    monkeypatch.setattr(comfy.ops, "cast_bias_weight", lent)
    monkeypatch.setattr(comfy.ops, "uncast_bias_weight", give_back)
    monkeypatch.setattr(comfy.model_management.LoadedModel, "model_load", load_a_part)
    return log


def on_another_device(model: Any, lent: SimpleNamespace) -> Any:
    """The MODEL with a device of another name than its memory."""
    model.load_device = torch.device("cpu", 0)
    lent.originals = [parameter.detach() for parameter in model.model.parameters()]  # so that no copy gets their memory
    lent.in_memory = {parameter.data_ptr() for parameter in lent.originals}
    return model

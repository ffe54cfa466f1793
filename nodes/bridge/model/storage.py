"""How a MODEL's layers are stored, asked before anything of it is loaded, and what has to stay on the device."""

from __future__ import annotations

import math
from typing import Any

import torch
from comfy.quant_ops import QuantizedTensor
from torch import Tensor, nn

from ....core.learning.adapter import is_eight_bit
from ....core.model.storage import LayerStorage, ModelStorage
from ....core.training.memory_plan import gigabytes
from .frozen_layers import can_stream, is_frozen
from .gradients import training_dtype


def storage_of(model: Any) -> ModelStorage:
    """How the layers of a MODEL's network are stored; nothing is loaded."""
    dtype = training_dtype(model.model)
    layers = (_storage(path, layer, dtype) for path, layer in model.model.diffusion_model.named_modules())
    return ModelStorage(layers=tuple(layer for layer in layers if layer.elements), compute_dtype=dtype)


def about_storage(model: Any) -> list[str]:
    """What the report says of weights that are stored in 8 bits or packed; nothing of others."""
    storage = storage_of(model)
    small = sum(layer.stored_bytes for layer in storage.layers if layer.is_eight_bit)
    return [f"weights: {gigabytes(storage.stored_bytes)} as they are stored, {gigabytes(small)} of them in 8 bits or "
            "packed; they are cast anew in both passes, and no cast is kept"] if small else []


def _storage(path: str, layer: nn.Module, dtype: torch.dtype) -> LayerStorage:
    own = list(layer.parameters(recurse=False))
    cast = sum(_elements(parameter) for parameter in own if is_eight_bit(parameter) or parameter.dtype != dtype)
    return LayerStorage(path=path, elements=sum(map(_elements, own)), stored_bytes=sum(map(stored_bytes, own)),
                        cast_bytes=cast * dtype.itemsize, is_eight_bit=any(map(is_eight_bit, own)),
                        is_frozen=is_frozen(layer), can_stream=can_stream(layer))


def stored_bytes(tensor: Tensor) -> int:
    """Bytes of a tensor in memory, with the scales of a quantised one."""
    if isinstance(tensor, QuantizedTensor):
        return sum(part.nbytes for part in tensor.state_dict("").values())
    return tensor.nbytes


def _elements(tensor: Tensor) -> int:
    return math.prod(tensor.shape)

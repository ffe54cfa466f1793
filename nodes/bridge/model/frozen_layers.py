"""Frozen layers of which nothing is kept for the backward pass: it casts their weights again.

Weights of 8 bits, packed weights and streamed ones are cast to be multiplied. Autograd keeps each cast, together a copy
of the network in the compute dtype, and what ComfyUI casts a streamed weight into is the next layer's as soon as one
has been computed. The gradient with respect to a frozen layer's input needs its weight alone: dL/dx = dL/dy W.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import comfy.ops
import torch
from comfy.quant_ops import QuantizedTensor
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ....core.learning.adapter import is_eight_bit, is_linear
from .bypass import innermost_forward, set_innermost_forward

Run = Callable[[Tensor], Tensor]


@contextmanager
def frozen_layers(module: nn.Module, streamed: bool) -> Iterator[Callable[[], None]]:
    """Within the context nothing is kept of casts that are too many to keep; yields a function that sees to it again
    after ComfyUI has loaded the module anew.

    Args:
        streamed: whether all layers are meant that ComfyUI can stream, not only those that are stored in 8 bits.
    """
    layers = [layer for layer in module.modules() if is_frozen(layer) or streamed and can_stream(layer)]

    def freeze() -> None:
        for layer in layers:
            forward = innermost_forward(layer)
            if not isinstance(forward, FrozenForward):
                set_innermost_forward(layer, FrozenForward(layer, forward))
                layer.__dict__["whole_weight"] = partial(whole_weight, layer)

    try:
        freeze()
        yield freeze
    finally:
        for layer in layers:
            forward = innermost_forward(layer)
            if isinstance(forward, FrozenForward):
                set_innermost_forward(layer, forward.own)
            layer.__dict__.pop("whole_weight", None)


def is_frozen(layer: nn.Module) -> bool:
    """Whether a layer's weight is stored in 8 bits or packed, or in such a file's own kind of layer."""
    weight = getattr(layer, "weight", None)
    is_quantised = weight is not None and is_eight_bit(weight) or is_linear(layer) and not isinstance(layer, nn.Linear)
    return is_quantised and _has_gradient(layer)


def can_stream(layer: nn.Module) -> bool:
    """Whether ComfyUI streams a layer, and its gradient can be had without keeping the weight."""
    return hasattr(layer, "comfy_cast_weights") and _has_gradient(layer)


def whole_weight(layer: nn.Module) -> Tensor:
    """The weight that a layer multiplies by, as a float32 tensor of its own."""
    device = next(layer.parameters()).device
    with torch.no_grad(), cast_weight(layer, device, torch.float32) as weight:
        return weight.to(torch.float32, copy=True)


class FrozenForward:
    """Stands for a layer's forward.

    Args:
        layer: linear or a convolution, of which nothing trains.
        own: its forward.
    """

    def __init__(self, layer: nn.Module, own: Callable[..., Tensor]):
        self.layer, self.own = layer, own

    def __call__(self, inputs: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if torch.is_grad_enabled() and inputs.requires_grad:
            output: Tensor = _Frozen.apply(  # type: ignore[no-untyped-call]
                inputs, self.layer, lambda given: self.own(given, *args, **kwargs))
            return output
        with torch.no_grad():
            return self.own(inputs, *args, **kwargs).detach()  # no view: networks add to it in place


class _Frozen(torch.autograd.Function):
    """y = W x + b, with nothing kept but the layer itself."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, layer: nn.Module, run: Run) -> Tensor:
        ctx.layer, ctx.shape, ctx.dtype = layer, inputs.shape, inputs.dtype
        return run(inputs.detach()).detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        gradient, layer = gradients[0], ctx.layer
        with cast_weight(layer, gradient.device, ctx.dtype) as weight:
            weight = weight.to(gradient.dtype)
            if is_linear(layer):
                result = gradient @ weight
                scale = getattr(layer, "pre_quant_scale", None)
                if scale is not None:
                    result = result * scale.to(result)
            else:
                result = _through_convolution(layer, gradient, weight, ctx.shape)
        return result.to(ctx.dtype), None, None


@contextmanager
def cast_weight(layer: nn.Module, device: torch.device, dtype: torch.dtype) -> Iterator[Tensor]:
    """The weight that a layer multiplies by, as long as the context lasts: its memory may be a buffer of ComfyUI's."""
    if _is_packed(layer):
        yield _unpacked(layer, device, dtype)
        return
    weight, bias, stream = comfy.ops.cast_bias_weight(layer, dtype=dtype, device=device, bias_dtype=dtype,
                                                      offloadable=True)
    try:
        yield weight.dequantize() if isinstance(weight, QuantizedTensor) else weight
    finally:
        comfy.ops.uncast_bias_weight(layer, weight, bias, stream)


def _is_packed(layer: nn.Module) -> bool:
    """Whether only the layer's own forward can read its weight, as in GGUF files."""
    return type(layer.weight.data) is not Tensor and not isinstance(layer.weight, QuantizedTensor)


def _unpacked(layer: nn.Module, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The weight that the layer's own forward unpacks for one row."""
    seen = _WeightSeen()
    own = innermost_forward(layer)
    with seen:
        (own.own if isinstance(own, FrozenForward) else own)(_row(layer, device, dtype))
    if seen.weight is None:
        raise RuntimeError(f"{type(layer).__name__}: its forward multiplies by no weight that can be seen")
    return seen.weight


class _WeightSeen(TorchFunctionMode):
    """Sees the weight that a layer's forward multiplies by."""

    weight: Tensor | None = None

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in (functional.linear, functional.conv2d, functional.conv3d):
            self.weight = args[1] if len(args) > 1 else kwargs["weight"]
        return function(*args, **(kwargs or {}))


def _row(layer: nn.Module, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The smallest input that a layer takes."""
    if is_linear(layer):
        return torch.zeros(1, layer.in_features, device=device, dtype=dtype)  # type: ignore[call-overload]
    return torch.zeros(1, layer.in_channels, *layer.kernel_size,  # type: ignore[misc, call-overload]
                       device=device, dtype=dtype)


def _has_gradient(layer: nn.Module) -> bool:
    is_convolution = isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    return is_linear(layer) or is_convolution and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


def _through_convolution(layer: Any, gradient: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
    """dL/dx of a convolution; of x only the shape is needed."""
    inputs = gradient.new_empty(1).expand(shape)
    result: Tensor = torch.ops.aten.convolution_backward(
        gradient, inputs, weight, None, layer.stride, layer.padding, layer.dilation, False,
        [0] * len(layer.stride), layer.groups, [True, False, False])[0]
    return result

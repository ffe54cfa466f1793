"""Gradients through a loaded model, without a second copy of its weights.

ComfyUI runs nodes in inference mode, so a loaded model's weights are inference tensors, through which no gradient
flows. `trainable` replaces them by normal tensors over the same memory; nothing else changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import comfy.ldm.pixeldit.model
import comfy.ldm.pixeldit.modules
import comfy.model_management
import comfy.quant_ops
import torch
from comfy.ldm import pixeldit
from comfy.ldm.modules.attention import attention_pytorch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.text_encoders.t5 import T5LayerNorm
from torch import Tensor, nn

from ....core.errors import InputError
from ....core.model.storage import Placement
from .bypass import injected_adapters
from .frozen_layers import frozen_layers, is_frozen
from .latent_shapes import pixels_per_latent
from .streaming import rest_on_device

try:
    from comfy_kitchen.backends.eager import rope  # type: ignore[import-untyped]
except ImportError:  # without it, ComfyUI has no fused kernels either
    rope = None

ROPE_KERNELS = tuple(f"{kind}_rope{layout}" for kind in ("apply", "rms") for layout in ("", "1", "_split_half",
                                                                                       "_split_half1"))


@contextmanager
def trainable(*patchers: Any, memory: float = 0,
              placement: Placement = Placement.RESIDENT) -> Iterator[Callable[[], None]]:
    """Load the models and make gradients flow through them; yields a function that does it again after a preview.

    LoRA patches of the graph stay applied, so training goes on top of them. Weights keep their bits.

    Args:
        patchers: model patchers, as `placed` gives them.
        memory: bytes to leave free beside the weights.
        placement: whether the models are whole on their device, or ComfyUI streams what does not fit.
    """
    is_streamed = placement == Placement.STREAMED
    with torch.inference_mode(False), torch.enable_grad(), ExitStack() as stack:
        again: list[Callable[[], None]] = []

        def prepare() -> None:
            with torch.inference_mode():  # elsewhere stock code copies 8-bit weights, into some that it cannot load
                comfy.model_management.load_models_gpu(list(patchers), memory_required=memory,
                                                       force_full_load=not is_streamed)
            for patcher in patchers:
                if not is_streamed:
                    patcher.unpin_all_weights()
            for step in again:
                step()
            for patcher in patchers:
                replace_inference_tensors(patcher.model)
                replace_injected_tensors(patcher.model)

        for patcher in patchers:
            if is_streamed:
                again.append(stack.enter_context(rest_on_device(patcher)))
            again.append(stack.enter_context(frozen_layers(patcher.model, is_streamed)))
        prepare()
        stack.enter_context(differentiable_kernels())
        for patcher in patchers:
            stack.enter_context(own_norm_inputs(patcher.model))
        yield prepare


def replace_inference_tensors(module: nn.Module) -> None:
    """Replace every inference parameter and buffer by a normal tensor over the same memory, but for quantised weights
    and those in dynamic VRAM: they are copied each time that they are used."""
    done: dict[int, nn.Parameter] = {}
    for part in module.modules():
        if is_frozen(part) or hasattr(part, "_v"):
            continue
        for name, parameter in part._parameters.items():
            if parameter is not None and not is_tracked(parameter):
                key = id(parameter)
                if key not in done:
                    done[key] = nn.Parameter(normal_tensor(parameter), requires_grad=False)
                part._parameters[name] = done[key]
        for name, buffer in part._buffers.items():
            if buffer is not None and not is_tracked(buffer):
                part._buffers[name] = normal_tensor(buffer)


def is_tracked(tensor: Tensor) -> bool:
    """Whether autograd can keep a tensor: no inference tensor, and none that was one.

    A parameter that was made in inference mode and moved to a card outside of it says that it is a normal tensor, but
    still has no version counter, without which nothing can be kept for the backward pass; one that was made outside and
    moved in inference mode has its counter still, and is an inference tensor.
    """
    try:
        return not tensor.is_inference() and tensor._version >= 0
    except RuntimeError:
        return False


def replace_injected_tensors(module: nn.Module) -> None:
    """Replace the inference tensors of the adapters that wrap the layers of a loaded module: gradients flow through
    an adapter on their way to the layers before it."""
    for adapter in injected_adapters(module):
        if isinstance(adapter, nn.Module):
            replace_inference_tensors(adapter)
        elif isinstance(weights := getattr(adapter, "weights", None), tuple | list):
            adapter.weights = type(weights)(normal_tensor(weight) if torch.is_tensor(weight) and weight.is_inference()
                                            else weight for weight in weights)


def normal_tensor(tensor: Tensor) -> Tensor:
    """The same values outside inference mode: over the same memory where DLPack can, otherwise a copy.

    Nothing in torch turns an inference tensor into a normal one, but a tensor that comes in from outside is normal.
    """
    is_plain = type(tensor.data) is Tensor and tensor.device.type in ("cpu", "cuda")
    return torch.from_dlpack(tensor.detach()) if is_plain else tensor.detach().clone()


def placed(patcher: Any, placement: Placement) -> Any:
    """The patcher that trains: for streaming itself, otherwise as `static_patcher`."""
    return patcher if placement == Placement.STREAMED else static_patcher(patcher)


def static_patcher(patcher: Any) -> Any:
    """The patcher itself, or for ComfyUI's dynamic VRAM (NVIDIA) a clone whose weights stay in place.

    Raises:
        InputError: when the dynamic MODEL came from a loader that cannot make such a clone.
    """
    if not patcher.is_dynamic():
        return patcher
    try:
        return patcher.clone(disable_dynamic=True)
    except RuntimeError as reason:
        raise InputError("model", "a model in dynamic VRAM from a loader that cannot reload it", "a trainable model",
                         "Use a stock loader, or start ComfyUI with --disable-dynamic-vram.") from reason


def static_clip(clip: Any) -> Any:
    """The CLIP itself, or for dynamic VRAM a clone whose weights stay in place.

    Raises:
        InputError: as `static_patcher`.
    """
    if not clip.patcher.is_dynamic():
        return clip
    static = clip.clone()
    static.patcher = static_patcher(clip.patcher)
    static.cond_stage_model = static.patcher.model
    return static


def training_dtype(model: Any) -> torch.dtype:
    """What a network computes in while it trains (less, under autocast): its own dtype, but never float16, where small
    gradients become zero."""
    dtype: torch.dtype = model.get_dtype_inference()
    return torch.float32 if dtype == torch.float16 else dtype


@contextmanager
def casting_layers(model: Any, always: bool = False) -> Iterator[None]:
    """Within the context the layers of a float16 network cast their weights to what they are given.

    Args:
        model: the loaded MODEL's network.
        always: of any network, for weights that train as float32 copies.
    """
    is_needed = always or training_dtype(model) != model.get_dtype_inference()
    layers = [layer for layer in model.diffusion_model.modules()
              if is_needed and not getattr(layer, "comfy_cast_weights", True)]
    for layer in layers:
        layer.comfy_cast_weights = True
    try:
        yield
    finally:
        for layer in layers:  # one that ComfyUI has moved away in the meantime casts until it is back
            own = "prev_comfy_cast_weights" if hasattr(layer, "prev_comfy_cast_weights") else "comfy_cast_weights"
            setattr(layer, own, False)


def training_options() -> dict[str, Any]:
    """Options of one forward: PyTorch's own attention, whose gradients are exact and which recomputes the same."""
    def attention(_: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        return attention_pytorch(*args, **kwargs)

    return {"optimized_attention_override": attention}


@contextmanager
def differentiable_kernels() -> Iterator[None]:
    """Within the context ComfyUI's networks keep to operations that have a gradient.

    Where a network does not ask whether it trains, what has no gradient is replaced: fused rotary embeddings by their
    own library's plain ones, and a scale and shift in place, over what it keeps itself, by one that is not.
    """
    before = comfy.model_management.in_training
    kernels = getattr(comfy.quant_ops, "ck", None)
    plain = [(kernels, name, getattr(rope, name)) for name in ROPE_KERNELS
             if hasattr(kernels, name) and hasattr(rope, name)]
    plain += [(owner, "apply_adaln_", _scaled_and_shifted) for owner in (pixeldit.model, pixeldit.modules)]
    own = [(owner, name, getattr(owner, name)) for owner, name, _ in plain]
    comfy.model_management.in_training = True
    try:
        for owner, name, function in plain:
            setattr(owner, name, function)
        yield
    finally:
        for owner, name, function in own:
            setattr(owner, name, function)
        comfy.model_management.in_training = before


def _scaled_and_shifted(rows: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(rows, rows, scale) + shift


@contextmanager
def own_norm_inputs(module: nn.Module) -> Iterator[None]:
    """Within the context the norms of transformers work on copies of their inputs.

    Blocks of Flux and T5 add to the residual stream in place, over what their norms keep for the backward pass. The
    original is no longer kept then, so that no memory is added. UNets and CLIP's layers need none of this.
    """
    unets = {norm for part in module.modules() if isinstance(part, UNetModel) for norm in part.modules()}
    network = getattr(module, "diffusion_model", nn.Module())
    norms = {norm for norm in network.modules() if isinstance(norm, nn.LayerNorm | nn.RMSNorm)} - unets
    norms |= {norm for norm in module.modules() if isinstance(norm, T5LayerNorm)}
    handles = [norm.register_forward_pre_hook(_copied) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _copied(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    if not torch.is_grad_enabled():
        return inputs
    return tuple(value.clone() if value.requires_grad else value for value in inputs)


def training_memory(model: Any, rows: int, size: int, channels: int, references: int = 0) -> float:
    """Bytes that ComfyUI should leave free: its own estimate of a forward, three times over for the backward pass.

    Args:
        references: pictures of about the same size that each row is shown.
    """
    side = size // pixels_per_latent(model)
    return 3.0 * model.memory_required([rows * (1 + references), channels, side, side])


def free_memory(model: Any) -> int:
    """Bytes free on the device that the MODEL runs on."""
    return int(comfy.model_management.get_free_memory(model.load_device))

"""Adapters that ComfyUI computes beside the weights instead of adding them: the only way on weights of 8 bits, which
cannot hold what would be added to them, and for what is not the same at every timestep.

A MODEL has them as injections: functions that wrap the layers' forward while the model is in use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import comfy.lora
import comfy.lora_convert
import comfy.model_management
import comfy.sd
from comfy.patcher_extension import PatcherInjection
from comfy.weight_adapter import WeightAdapterBase
from comfy.weight_adapter.bypass import BypassForwardHook
from torch import Tensor, nn

from ....core.errors import InputError

BYPASS = "bypass_lora"
"""Where ComfyUI keeps them among a patcher's injections."""
ADDED = "personalize_added"
"""Where a patcher keeps them as patches of weights, among its attachments; None: they cannot be that."""
Added = tuple[Mapping[str, Any], float]
"""Patches by weight, and their strength."""


def load_beside(model: Any, clip: Any, lora: Mapping[str, Tensor], strength_model: float,
                strength_clip: float) -> tuple[Any, Any]:
    """Clones of MODEL and CLIP that compute the adapter beside their weights, on top of those that they have already.

    Stock nodes that merge or save weights get them with the adapter added, as they would a LoRA's.
    """
    models = comfy.sd.load_bypass_lora_for_models(model, clip, dict(lora), strength_model, strength_clip)
    keys: dict[str, Any] = comfy.lora.model_lora_keys_unet(model.model, {}) if model is not None else {}
    if clip is not None:
        keys = comfy.lora.model_lora_keys_clip(clip.cond_stage_model, keys)
    patches = comfy.lora.load_lora(comfy.lora_convert.convert_lora(dict(lora)), keys, log_missing=False)
    adapters = {key: patch for key, patch in patches.items() if isinstance(patch, WeightAdapterBase)}
    for after, before, strength in zip(models, (model, clip), (strength_model, strength_clip), strict=True):
        if after is not None:
            settle(getattr(after, "patcher", after), getattr(before, "patcher", before), (adapters, strength))
    return models


def settle(patcher: Any, before: Any, added: Added | None = None) -> None:
    """Adapters that were just put beside the weights of a clone join those of the patcher that it was made of, and its
    weights are guarded.

    Args:
        added: the same adapters as patches of weights; None where they are none.
    """
    _keep_earlier(patcher, before)
    if BYPASS in patcher.injections:
        earlier = before.attachments.get(ADDED) if BYPASS in before.injections else ()
        patcher.attachments[ADDED] = None if added is None or earlier is None else (*earlier, added)
        _guard(patcher)


def adapters_of(patcher: Any) -> list[PatcherInjection]:
    """The injections of a patcher that compute adapters; another list, for another set of adapters."""
    return list(patcher.injections.get(BYPASS, ()))


def injected_adapters(module: nn.Module) -> Iterator[Any]:
    """The adapters that wrap the layers of a loaded module at the moment, the outermost of each layer first."""
    for layer in module.modules():
        yield from (hook.adapter for hook in _hooks(layer))


def innermost_forward(layer: nn.Module) -> Callable[..., Tensor]:
    """A layer's forward below the adapters that wrap it at the moment."""
    hooks = _hooks(layer)
    forward: Callable[..., Tensor] = hooks[-1].original_forward if hooks else layer.forward
    return forward


def set_innermost_forward(layer: nn.Module, forward: Callable[..., Tensor]) -> None:
    """Put another forward below the adapters that wrap a layer at the moment."""
    hooks = _hooks(layer)
    if hooks:
        hooks[-1].original_forward = forward
    elif getattr(forward, "__func__", None) is type(layer).forward:
        layer.__dict__.pop("forward", None)
    else:
        layer.forward = forward


def _hooks(layer: nn.Module) -> list[Any]:
    """The hooks of ComfyUI's that wrap a layer, the outermost first."""
    hooks: list[Any] = []
    forward = layer.__dict__.get("forward")
    while isinstance(hook := getattr(forward, "__self__", None), BypassForwardHook):
        hooks.append(hook)
        forward = hook.original_forward
    return hooks


def _keep_earlier(patcher: Any, before: Any) -> None:
    """Keep the adapters that were there before, which the stock function replaces by the new ones.

    They wrap a layer's forward one around the other, so they go out in the opposite order.
    """
    earlier, new = adapters_of(before), adapters_of(patcher)
    if earlier and new != earlier:
        both = [*earlier, *new]
        patcher.set_injections(BYPASS, [PatcherInjection(
            inject=lambda model: [one.inject(model) for one in both],
            eject=lambda model: [one.eject(model) for one in reversed(both)])])


class _WeightsAlone:
    """A patcher that hands its weights with the adapters added to those who take them for the whole model."""

    def get_key_patches(self, filter_prefix: str | None = None) -> Any:
        """With a prefix, as nodes that merge models ask for the weights of the second one, those of the whole."""
        if filter_prefix is not None:
            return _added(self.clone()).get_key_patches(filter_prefix)  # type: ignore[attr-defined]
        return super().get_key_patches(filter_prefix)  # type: ignore[misc]

    def add_patches(self, patches: Mapping[str, Any], *strengths: float) -> Any:
        """Where a patch is a list, as the weights of a whole model are, it is a merge into this one: the adapters
        become a part of what is merged."""
        if any(isinstance(patch, list) for patch in patches.values()):
            return _added(self).add_patches(patches, *strengths)
        return super().add_patches(patches, *strengths)  # type: ignore[misc]

    def state_dict_for_saving(self, *parts: Any, **named: Any) -> Any:
        """Of the whole."""
        whole = _added(self.clone())  # type: ignore[attr-defined]
        comfy.model_management.load_models_gpu([whole])
        return whole.state_dict_for_saving(*parts, **named)


_GUARDED: dict[type, type] = {}
"""For each class of patchers the one whose weights are guarded."""


def _added(patcher: Any) -> Any:
    """The guarded patcher itself, its adapters as patches of its weights.

    Raises:
        InputError: one of them cannot be added to weights.
    """
    added = patcher.attachments.pop(ADDED)
    if added is None:
        raise _refusal()
    del patcher.injections[BYPASS]
    patcher.__class__ = next(known for known, guarded in _GUARDED.items() if type(patcher) is guarded)
    for adapters, strength in added:
        patcher.add_patches(adapters, strength)
    return patcher


def _guard(patcher: Any) -> None:
    """Make a patcher, and its clones, refuse its weights to nodes that merge or save them."""
    known = type(patcher)
    if not isinstance(patcher, _WeightsAlone):
        patcher.__class__ = _GUARDED.setdefault(known, type(known.__name__, (_WeightsAlone, known), {}))


def _refusal() -> InputError:
    return InputError("model", "a model with a personalization that no weights can hold (a rank by timestep, or on top "
                      "of a stock bypass LoRA)", "weights that hold it, for merging, saving or extracting",
                      "Load the base model in 16 or 32 bits, put the saved file on it with the stock Load LoRA (whole "
                      "rank at every step), and merge or save that.")

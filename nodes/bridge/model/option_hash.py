"""A digest of what other nodes hooked into a MODEL besides weights: sampling objects, patches, wrappers.

Two MODELs with one checkpoint and other patches sample other pictures, so a cache of pictures must tell them
apart. Functions are told apart by their name and by what they close over. Where that cannot be seen (a value
inside compiled code), two patches of one name look alike.
"""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Mapping
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from torch import nn

from .hashes import tensor_digest, weights_hash

DEEPEST = 12
LARGEST_MODULE = 1_000_000
"""Modules with more elements (whole networks) are named, not hashed: their weights have their own digest."""


def option_hash(model: Any) -> str:
    """Digest of a MODEL's object patches, options and wrappers."""
    parts = [
        type(model.get_model_object("model_sampling")).__mro__,
        model.get_model_object("model_sampling"),
        model.object_patches,
        model.model_options,
        model.wrappers,
    ]
    return hashlib.blake2b(_describe(parts, frozenset(), 0).encode(), digest_size=20).hexdigest()


def object_patch_hash(model: Any) -> str:
    """Digest of a MODEL's object patches alone: of all options, they are what also changes training."""
    return hashlib.blake2b(_describe(model.object_patches, frozenset(), 0).encode(), digest_size=20).hexdigest()


def _describe(value: Any, above: frozenset[int], depth: int) -> str:
    """Text that is equal for equal values in every session; `above`: ids of what contains this value."""
    if value is None or isinstance(value, bool | int | float | str | bytes | torch.dtype | torch.device):
        return repr(value)
    if torch.is_tensor(value):
        return tensor_digest(value).hex()
    if id(value) in above or depth > DEEPEST:
        return type(value).__qualname__
    inside = functools.partial(_describe, above=above | {id(value)}, depth=depth + 1)
    if isinstance(value, Mapping):
        return "{" + ",".join(sorted(f"{inside(key)}:{inside(item)}" for key, item in value.items())) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(inside, value)) + "]"
    if isinstance(value, set | frozenset):
        return "(" + ",".join(sorted(map(inside, value))) + ")"
    return _describe_object(value, inside)


def _describe_object(value: Any, inside: Any) -> str:
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, functools.partial):
        return "partial" + inside([value.func, value.args, value.keywords])
    if isinstance(value, types.MethodType):
        return inside([value.__func__, value.__self__])
    if isinstance(value, types.FunctionType):
        closed = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        return f"{value.__module__}.{value.__qualname__}" + inside(
            [closed, value.__defaults__, value.__kwdefaults__]
        )
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, nn.Module):
        state = value.state_dict()
        small = sum(tensor.numel() for tensor in state.values()) <= LARGEST_MODULE
        return name + (weights_hash(state) + inside(_plain_attributes(value)) if small else "")
    if isinstance(value, ModelPatcher) or not hasattr(value, "__dict__"):
        return name
    return name + inside(vars(value))


def _plain_attributes(module: nn.Module) -> dict[str, Any]:
    """A module's own settings, such as model_sampling's shift, without torch's machinery."""
    return {name: item for name, item in vars(module).items() if isinstance(item, bool | int | float | str)}


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - an empty cell raises
    except ValueError:
        return False
    return True

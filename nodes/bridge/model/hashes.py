"""What a loaded model *is*: a digest of its weights and of the patches that the graph put on them.

Digests depend on values, not on storage: the same checkpoint in fp16 and upcast to fp32 gives the same one.
"""

from __future__ import annotations

import hashlib
import uuid
import weakref
from collections.abc import Iterable, Iterator, Mapping
from operator import itemgetter
from typing import Any

import comfy.utils
import torch
from torch import Tensor, nn

_MEMO: weakref.WeakKeyDictionary[nn.Module, dict[Any, str]] = weakref.WeakKeyDictionary()
_INJECTED: weakref.WeakKeyDictionary[Any, bytes] = weakref.WeakKeyDictionary()
UNUSED = ("clip_l.transformer.text_projection.weight", "clip_h.transformer.text_projection.weight")
"""Checkpoints of Stable Diffusion have no such weight: ComfyUI leaves arbitrary memory there and never reads it."""
CHUNK = 1 << 24
"""Elements hashed at a time, so that no second copy of a large weight is made."""


def model_hash(patcher: Any) -> str:
    """Digest of a MODEL's or CLIP's weights with the LoRA patches of the graph, whatever is loaded at the moment.

    Weights injected at run time (bypass LoRA) cannot be looked into: every injection gives another digest.
    """
    memo = _MEMO.setdefault(patcher.model, {})
    injected = [_INJECTED.setdefault(injection, uuid.uuid4().bytes)
                for _, injections in sorted(patcher.injections.items()) for injection in injections]
    key = (patcher.patches_uuid, len(patcher.patches), tuple(injected))
    if key not in memo:
        digest = hashlib.blake2b(digest_size=20)
        for name, weight in sorted(_weights(patcher), key=itemgetter(0)):
            if name in UNUSED:
                continue
            digest.update(name.encode())
            digest.update(_value(weight))
            digest.update(_value(patcher.patches.get(name, [])))
        digest.update(b"".join(injected))
        memo[key] = digest.hexdigest()
    return memo[key]


def _weights(patcher: Any) -> Iterator[tuple[str, Tensor]]:
    """Each weight without patches. What a quantised weight is made of (scales, its format) is in it; names that stand
    for no weight, as loaders of GGUF files have one for the memory that they need, are none."""
    parts = dict(patcher.model.named_modules(remove_duplicate=False))
    for name in patcher.model_state_dict():
        path, _, last = name.rpartition(".")
        if hasattr(parts.get(path), last):
            kept = patcher.backup.get(name)
            weight = comfy.utils.get_attr(patcher.model, name) if kept is None else kept.weight
            yield name, patcher.hook_backup.get(name, (weight,))[0]


def vae_hash(vae: Any) -> str:
    """Digest of a VAE's weights."""
    return model_hash(vae.patcher)


def weights_hash(tensors: Mapping[str, Tensor]) -> str:
    """Digest of named tensors."""
    digest = hashlib.blake2b(digest_size=20)
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor_digest(tensor))
    return digest.hexdigest()


def tensor_digest(tensor: Tensor) -> bytes:
    """Digest of shape and values, read as float32 where that loses nothing."""
    digest = hashlib.blake2b(str(tuple(tensor.shape)).encode(), digest_size=20)
    dequantize = getattr(tensor, "dequantize", None)
    plain = tensor.detach()
    if type(tensor) not in (Tensor, nn.Parameter) and dequantize is not None:
        plain = dequantize().detach()
    flat = plain.reshape(-1)
    for start in range(0, flat.numel(), CHUNK):
        part = flat[start:start + CHUNK]
        exact = torch.float64 if part.dtype == torch.float64 else torch.float32
        part = part.to("cpu", exact) if part.is_floating_point() else part.to("cpu")
        digest.update(part.contiguous().view(torch.uint8).numpy().data)
    return digest.digest()


def _value(value: Any) -> bytes:
    """Digest of anything a patch is made of: tensors, numbers, tuples, weight adapters, functions."""
    if torch.is_tensor(value):
        return tensor_digest(value)
    if isinstance(value, Mapping):
        return _value([(str(name), value[name]) for name in sorted(value, key=str)])
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return hashlib.blake2b(b"".join(_value(item) for item in value) + b"|", digest_size=20).digest()
    if hasattr(value, "weights"):  # comfy.weight_adapter: a class and its tensors
        return type(value).__name__.encode() + _value(value.weights)
    if callable(value):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value))}".encode()
    return repr(value).encode()

"""Whether the tensors of an adapter file belong together: the parts of every layer, by the endings that ComfyUI reads.

Other programs may have resized or merged the file; a layer with a part missing, renamed or misshapen is left out by
loaders with a line in the log at best, so it is refused here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor

from ...errors import require
from ...store.metadata import CHOOSE

PRODUCTS = (("lora_up.weight", "lora_down.weight"), ("lora_B.weight", "lora_A.weight"), ("lora_B", "lora_A"),
            ("lora.up.weight", "lora.down.weight"), ("hada_w1_a", "hada_w1_b"), ("hada_w2_a", "hada_w2_b"),
            ("lokr_w1_a", "lokr_w1_b"), ("lokr_w2_a", "lokr_w2_b"))
"""Pairs (out, rank, ...) and (rank, in, ...) that are multiplied."""
_KRONECKER = tuple({*first, *second} for first in (("lokr_w1",), PRODUCTS[6]) for second in (("lokr_w2",), PRODUCTS[7]))
WHOLE: tuple[set[str], ...] = (
    *(set(pair) for pair in PRODUCTS[:4]), {*PRODUCTS[4], *PRODUCTS[5]}, *_KRONECKER, {"diff"}, {"diff_b"},
    {"set_weight"}, {"oft_blocks"}, {"w_norm"}, {"b_norm"}, {"a1.weight", "a2.weight", "b1.weight", "b2.weight"})
"""What a layer consists of, one kind each."""
EXTRA = ("alpha", "dora_scale", "lora_mid.weight", "lokr_t2", "hada_t1", "hada_t2", "rescale", "reshape_weight")
MIXERS = {"lora_mid.weight", "lokr_t2", "hada_t1", "hada_t2"}
"""With one of these a product is taken over other axes."""
ENDINGS = sorted({*EXTRA, *(part for kind in WHOLE for part in kind)}, key=len, reverse=True)


def layers_of(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """For each layer its tensors, by their endings.

    Raises:
        InputError: for a tensor of an unknown name, a layer that is not whole, or parts that do not fit.
    """
    layers: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        ending = _ending(name)
        require(ending is not None, "file", f"{path}: a tensor {name!r}", "names that adapter files have", CHOOSE)
        layers.setdefault(name.removesuffix(f".{ending}"), {})[str(ending)] = tensor
    for layer, parts in layers.items():
        _check_layer(path, layer, parts)
    return layers


def layer_names(tensors: Iterable[str]) -> set[str]:
    """The layers that tensors of these names belong to; a name without a known ending is one of its own."""
    return {name.removesuffix(f".{_ending(name)}") for name in tensors}


def _ending(name: str) -> str | None:
    return next((known for known in ENDINGS if name.endswith(f".{known}")), None)


def _check_layer(path: Path, layer: str, parts: Mapping[str, Tensor]) -> None:
    found = ", ".join(sorted(parts))
    require(any(kind <= parts.keys() for kind in WHOLE), "file", f"{path}: only {found} of the layer {layer}",
            "all parts of every layer", CHOOSE)
    lonely = [part for pair in PRODUCTS for part in pair if part in parts and not parts.keys() >= set(pair)]
    require(not lonely, "file", f"{path}: {', '.join(lonely)} of the layer {layer} without its counterpart",
            "all parts of every layer", CHOOSE)
    alpha = parts.get("alpha")
    require(alpha is None or alpha.numel() == 1, "file", f"{path}: {layer}.alpha of shape {_shape(alpha)}",
            "one number", CHOOSE)
    for first, second in PRODUCTS if not MIXERS & parts.keys() else ():
        if first in parts:
            up, down = parts[first], parts[second]
            fits = up.ndim >= 2 and down.ndim >= 2 and up.shape[1] == down.shape[0] > 0
            require(fits, "file", f"{path}: {first} {_shape(up)} and {second} {_shape(down)} of the layer {layer}",
                    "one rank for both", CHOOSE)


def _shape(tensor: Tensor | None) -> tuple[int, ...]:
    return () if tensor is None else tuple(tensor.shape)

"""Which attention calls of a loaded network read the text from the image, found by what the network does.

A network is run with its linear layers stood in for by a copy of their input and its attentions by their queries: then
no token knows of another, nothing is multiplied and no weight is loaded, and what changes at a token shows what it is
made of. Changed latents mark the image's tokens, a changed context the text's. No network is known by name.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

SIZE, DIGITS, LEAST_CHANGE = 0.1, 4, 1e-3
"""Root mean square of a stand-in's output; the numbers that a head's part of a token is digested to; and from which
part of the largest of them on a token counts as changed."""

Forward = Callable[[Tensor, Tensor, Callable[..., Tensor]], Any]
"""(latents, context, attention override): one network call."""


Rows = slice | Tensor
"""Places along an axis: a slice, which copies nothing, where they stand one behind the other."""


@dataclass(frozen=True, eq=False)
class Site:
    """An attention call in which image queries read text keys.

    Attributes:
        number: which of the network call's attention calls it is, from 0.
        name: as people are told of it: joint where image and text attend together, cross where the image reads the text
            alone.
        scale: 1 where its image tokens are the latents' cells, 2 where they are 2 x 2 of them, and so on.
        queries: the number of its queries.
        keys: the number of its keys.
        image: the queries that are the picture's, in order; reference pictures' are none.
        first: the first of them.
        text: the key of each column of the context; 0 where it is missing.
        missing: which columns have no key, (T,); None where all have one.
    """

    number: int
    name: str
    scale: int
    queries: int
    keys: int
    image: Rows
    first: int
    text: Rows
    missing: Tensor | None


@dataclass(frozen=True, eq=False)
class Look:
    """What one network call looks like: how many attention calls it lets others see, and the sites among them."""

    calls: int
    sites: tuple[Site, ...]


def look_at(network: nn.Module, forward: Forward, latents: Tensor, context: Tensor) -> Look:
    """The sites of a network, from a few calls of `forward` at almost no cost.

    Args:
        network: whose linear layers are stood in for meanwhile.
        forward: calls it.
        latents: (R, C, ..., h, w).
        context: (R, T, D).
    """
    with torch.no_grad(), stood_in(network), _eager():
        def watch(x: Tensor, text: Tensor) -> list[_Seen]:
            watcher = _Watcher()
            forward(x, text, watcher)
            return watcher.seen

        base = watch(latents, context)
        pictures = watch(_changed(latents), context)
        texts = watch(latents, _changed(context))
        found = [(number, image, text) for number, (one, other, third) in enumerate(zip(base, pictures, texts,
                                                                                    strict=True))
                 if len(image := one.changed_queries(other)) and len(text := one.changed_keys(third))]
        columns = _columns([base[number] for number, _, _ in found], [text for *_, text in found], context,
                           lambda text: [watch(latents, text)[number] for number, _, _ in found])
    kinds = ["joint" if len(base[number].changed_keys(pictures[number])) else "cross" for number, _, _ in found]
    sites = [Site(number, f"{kind} {index}", scale_of(len(image), latents), base[number].queries.shape[-1],
                  base[number].keys.shape[-1], _as_slice(image), int(image[0]), _as_slice(text.clamp_min(0)),
                  text < 0 if bool((text < 0).any()) else None)
             for index, (kind, (number, image, _), text) in enumerate(zip(kinds, found, columns, strict=True))]
    return Look(len(base), tuple(sites))


@contextmanager
def stood_in(network: nn.Module) -> Iterator[None]:
    """Within the context every linear layer repeats its input to its output's width, at a fixed size.

    So a token's output depends on that token alone, as the layer's would, whatever the layer's weight is stored as and
    wherever it is.
    """
    layers: list[Any] = [layer for layer in network.modules()
                         if isinstance(getattr(layer, "out_features", None), int) and hasattr(layer, "in_features")]
    before = [layer.__dict__.get("forward") for layer in layers]
    try:
        for layer in layers:
            layer.forward = _repeating(layer.out_features)
        yield
    finally:
        for layer, forward in zip(layers, before, strict=True):
            layer.__dict__.pop("forward", None)
            if forward is not None:
                layer.__dict__["forward"] = forward


def _eager() -> AbstractContextManager[Any]:
    """Within the context compiled networks run as they are written: a look is not worth compiling for."""
    can_compile = "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance")  # else nothing is compiled
    return torch.compiler.set_stance("force_eager") if can_compile else nullcontext()


def scale_of(tokens: int, latents: Tensor) -> int:
    """The scale at which latents (..., h, w) have so many tokens, sides rounded up; the nearest where none has."""
    height, width = latents.shape[-2:]
    exact = [scale for scale in (1, 2, 4, 8, 16, 32, 64) if -(-height // scale) * -(-width // scale) == tokens]
    return exact[0] if exact else max(1, round(math.sqrt(height * width / tokens)))


def heads_of(rows: Tensor, heads: int, is_split: bool) -> Tensor:
    """(R, N, H d), or (R, H, N, d) where it is split already, to (R, H, N, d)."""
    return rows if is_split else rows.unflatten(-1, (heads, -1)).transpose(1, 2)


def _repeating(width: int) -> Callable[..., Tensor]:
    def forward(rows: Tensor, *_: Any, **__: Any) -> Tensor:
        size = rows.float().square().mean(-1, keepdim=True).sqrt().clamp_min(1e-6)
        copies = -(-width // rows.shape[-1])
        return (SIZE * rows / size.to(rows.dtype)).repeat(*[1] * (rows.ndim - 1), copies)[..., :width].contiguous()

    return forward


@dataclass(frozen=True, eq=False)
class _Seen:
    """Digests of one attention call's queries and keys, a few numbers for every token: (..., N)."""

    queries: Tensor
    keys: Tensor

    def changed_queries(self, other: _Seen) -> Tensor:
        return _differing(self.queries, other.queries)

    def changed_keys(self, other: _Seen) -> Tensor:
        return _differing(self.keys, other.keys)


class _Watcher:
    """An attention override that keeps what it sees, and gives every query itself as its output."""

    def __init__(self) -> None:
        self.seen: list[_Seen] = []

    def __call__(self, function: Callable[..., Tensor], query: Tensor, key: Tensor, value: Tensor, heads: int,
                 *arguments: Any, **settings: Any) -> Tensor:
        is_split = settings.get("skip_reshape", False)
        self.seen.append(_Seen(_digest(query), _digest(key)))
        _check_mask(arguments[0] if arguments else settings.get("mask"), query, self.seen[-1].keys.shape[-1])
        out = heads_of(query, heads, is_split)
        return out if settings.get("skip_output_reshape", False) else out.transpose(1, 2).flatten(2)


def _check_mask(mask: Tensor | None, query: Tensor, keys: int) -> None:
    """Raise `RuntimeError` for what attention cannot add to the logits of rows of which each has a mask of its own."""
    if mask is None:
        return
    fits = mask.shape[-1] in (1, keys) and (mask.ndim != 2 or mask.shape[0] in (1, query.shape[-2])) and \
        (mask.ndim < 3 or query.shape[0] % mask.shape[0] == 0)
    if mask.dtype != torch.bool and not mask.is_floating_point() or not fits:
        raise RuntimeError(f"an attention mask {tuple(mask.shape)} of {mask.dtype} for queries {tuple(query.shape)}")


def _digest(rows: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(rows.shape[-1], DIGITS, generator=generator).to(rows.device)
    return torch.nan_to_num(rows.float() @ weights).movedim(-1, 0).flatten(0, -2)


def _differing(first: Tensor, second: Tensor) -> Tensor:
    """The tokens at which any digest differs."""
    if first.shape != second.shape:
        return torch.empty(0, dtype=torch.long, device=first.device)
    change = (first - second).abs() > LEAST_CHANGE * first.abs().max()
    return change.any(0).nonzero().flatten()


def _changed(values: Tensor) -> Tensor:
    noise = torch.randn(values.shape, generator=torch.Generator().manual_seed(1)).to(values)
    return values + noise * values.float().std().clamp_min(1.0).to(values)


def _columns(base: Sequence[_Seen], rows: Sequence[Tensor], context: Tensor,
             watch: Callable[[Tensor], list[_Seen]]) -> list[Tensor]:
    """For each site the key row of every context column.

    Where as many rows changed as there are columns, they stand in order. Where fewer did (padding left out), columns
    are told apart by changing those whose number has a bit set, one bit after the other.
    """
    length = context.shape[1]
    numbers = torch.arange(length, device=context.device)
    if all(len(found) == length for found in rows):
        return list(rows)
    codes = [torch.zeros_like(found) for found in rows]
    for bit in range(max(1, (length - 1).bit_length())):
        has_bit = (numbers >> bit & 1).bool()
        seen = watch(torch.where(has_bit[None, :, None], _changed(context), context))
        for code, found, one, other in zip(codes, rows, base, seen, strict=True):
            code += torch.isin(found, one.changed_keys(other)).long() << bit
    columns = [torch.full_like(numbers, -1) for _ in rows]
    for column, code, found in zip(columns, codes, rows, strict=True):
        is_known = code < length
        column[code[is_known]] = found[is_known]
    return columns


def _as_slice(rows: Tensor) -> Rows:
    first, last = int(rows[0]), int(rows[-1])
    in_order = last - first + 1 == len(rows) and bool((rows.diff() == 1).all())
    return slice(first, last + 1) if in_order else rows

"""Where DCI mixes in a UNet: its cross-attention layers (attn2), through ComfyUI's attention replacements."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from comfy.ldm.modules.attention import optimized_attention
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, Upsample
from torch import Tensor, nn

from .branch_mixing import BranchMixing, Pairs

Block = tuple[str, int, int]
"""A cross-attention layer as attention patches name it: part, number of the block in it, layer in that."""


@dataclass(frozen=True)
class CrossAttentionSites:
    """The cross-attention layers of a UNet.

    Attributes:
        names: name and scale of each layer.
        blocks: the same layers as ComfyUI names them.
    """

    names: Mapping[str, int]
    blocks: Mapping[str, Block]

    def install(self, options: dict[str, Any], run: BranchMixing, pairs: Pairs) -> dict[str, Any]:
        """Model options with DBIM in the cross-attention layers that mix, around earlier replacements."""
        transformer = options.get("transformer_options", {})
        replace = transformer.get("patches_replace", {})
        before = replace.get("attn2", {})
        mixing = {block: _Mixing(name, before.get(block, before.get(block[:2])), run, pairs)
                  for name, block in self.blocks.items() if name in run.layers}
        replace = {**replace, "attn2": {**before, **mixing}}
        return {**options, "transformer_options": {**transformer, "patches_replace": replace}}


def cross_attention_sites(network: nn.Module) -> CrossAttentionSites | None:
    """The sites of a UNet, or None where a network has no separate cross-attention layers."""
    found = list(_unet_blocks(network))
    if not found:
        return None
    label = {block: f"{block[0]} {block[1]}.{block[2]}" for block, _ in found}
    return CrossAttentionSites({label[block]: scale for block, scale in found},
                               {label[block]: block for block, _ in found})


def _unet_blocks(network: nn.Module) -> Iterator[tuple[Block, int]]:
    """Every cross-attention layer with its scale, in the order in which the network runs them."""
    scale = 1
    for part, attribute in (("input", "input_blocks"), ("middle", "middle_block"), ("output", "output_blocks")):
        blocks = getattr(network, attribute, None)
        for number, block in enumerate([blocks] if part == "middle" else blocks or []):
            for module in block.children() if block is not None else ():
                layers = getattr(module, "transformer_blocks", None) or ()
                yield from (((part, number, index), scale) for index, layer in enumerate(layers)
                            if getattr(layer, "attn2", None) is not None)
                scale = scale * 2 if isinstance(module, Downsample) else scale
                scale = scale // 2 if isinstance(module, Upsample) else scale


@dataclass(frozen=True)
class _Mixing:
    """Cross-attention of one layer, with DBIM on the concept rows of every paired entry."""

    name: str
    before: Callable[..., Any] | None
    run: BranchMixing
    pairs: Pairs

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, options: dict[str, Any]) -> Tensor:
        """Projected query (R, N, H d), key and value (R, T, H d) to attention outputs (R, N, H d)."""
        heads = options["n_heads"]
        if self.before is None:
            out = optimized_attention(query, key, value, heads, attn_precision=options.get("attn_precision"),
                                      transformer_options=options)
        else:
            out = self.before(query, key, value, options).clone()
        for span, prompt in self.run.spans(options, self.pairs):
            outputs, queries, keys = (split_heads(rows[span], heads) for rows in (out, query, key))
            mixed = self.run.mix(self.name, outputs, queries, keys, prompt)
            out[span][: self.run.rows] = mixed.transpose(1, 2).flatten(2)
        return out


def split_heads(rows: Tensor, heads: int) -> Tensor:
    """(R, N, H d) to (R, H, N, d)."""
    return rows.unflatten(-1, (heads, -1)).transpose(1, 2)

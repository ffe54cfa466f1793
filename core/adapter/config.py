"""Which layers learn, by which method, and how much: the choices, and what of them can be refused without a model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from ..errors import InputError, require

Kind = Literal["lora", "rslora", "dora", "lokr", "loha", "oft", "full"]
KINDS: tuple[str, ...] = get_args(Kind)

FULL, OFT, DORA, RSLORA = "full", "oft", "dora", "rslora"
LOW_RANK = ("lora", RSLORA, DORA)
"""Kinds whose update is a product B A."""

# Attention projections as ldm / ComfyUI, diffusers, CLIP, T5, SD3 and Flux name them.
_ATTENTION = (
    r"(.*\.)?\w*attn\w*\.(to_q|to_k|to_v|to_out\.0|q_proj|k_proj|v_proj|out_proj|qkv|proj"
    r"|add_[qkv]_proj|to_add_out)"
    r"|(.*\.)?SelfAttention\.[qkvo]|(.*\.)?single_blocks\.\d+\.linear[12]"
)
_CROSS_ATTENTION_KV = r"(.*\.)?attn2\.(to_k|to_v)|(.*\.)?self_attn\.(k_proj|v_proj)"
_FEED_FORWARD = r"(.*\.)?ff(_context)?\.net\.(0\.proj|2)|(.*\.)?mlp\.fc[12]|(.*\.)?(img|txt)_mlp\.[02]"
TARGETS = {
    "attention": _ATTENTION,
    "cross_attention_kv": _CROSS_ATTENTION_KV,  # Custom Diffusion's set; in a text encoder its own
    "attention_and_feed_forward": f"{_ATTENTION}|{_FEED_FORWARD}",
    # CLIP's projection has no name in adapter files of one-encoder models, and only SDXL reads what it gives.
    "all": r"(?!(.*\.)?text_projection$).*",
}


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """Which layers learn, by which method, and how much.

    Attributes:
        kind: "lora": W + (alpha / rank) B A (arXiv:2106.09685); "rslora": alpha / sqrt(rank) instead
            (arXiv:2312.03732); "dora": m (W + (alpha / rank) B A) / ||W + (alpha / rank) B A|| by output row
            (arXiv:2402.09353); "lokr", "loha": W + (alpha / rank) times a Kronecker (arXiv:2309.14859) or a Hadamard
            product (arXiv:2108.06098) of low-rank matrices; "oft": W R^T with block-diagonal rotations R
            (arXiv:2306.07280); "full": the weights themselves.
        rank: inner width of B A and of the products' factors; for "oft" the size of a block; unused by "full".
        alpha: the update's scale as above; unused by "oft" and "full".
        targets: a name in `TARGETS`, or a regular expression that a module's whole path matches. "all" is every
            linear and convolution layer, for "full" every parameter there is.
        block_ranks: other ranks by part of the network, as `parse_block_ranks` reads them.
    """

    kind: Kind = "lora"
    rank: int = 16
    alpha: float = 16.0
    targets: str = "attention"
    block_ranks: str = ""

    def __post_init__(self) -> None:
        require(self.kind in KINDS, "adapter kind", repr(self.kind), "one of " + ", ".join(KINDS),
                "Choose one of them.")
        require(self.rank >= 1, "rank", self.rank, "1 or more", "Use for example 16.")
        require(self.alpha > 0, "alpha", self.alpha, "a number above 0", "Use the rank's own value.")
        _compiled("targets", self.pattern, f"one of {', '.join(TARGETS)}, or a regular expression")
        ranks = parse_block_ranks(self.block_ranks)
        require(not ranks or self.kind != FULL, "block_ranks", repr(self.block_ranks), "nothing with the kind full",
                "All weights have no rank: clear block_ranks, or use targets.")

    @property
    def pattern(self) -> str:
        """The regular expression over module paths."""
        return TARGETS.get(self.targets, self.targets)

    def rank_of(self, path: str) -> int:
        """The rank of the layer at a path; 0 where it is left out."""
        found = (rank for part, rank in parse_block_ranks(self.block_ranks).items() if re.search(part, path))
        return next(found, self.rank)


def parse_block_ranks(text: str) -> Mapping[str, int]:
    """Ranks by part of the network, from a text such as `middle=8, output=32`.

    Each entry, in a line of its own or after a comma, is a regular expression that is searched in a module's path, `=`
    and a rank; 0 leaves those layers out. The first entry that is found counts.

    Raises:
        InputError: for an entry that cannot be read.
    """
    ranks = {}
    for entry in re.split(r"\n|,(?![^{]*\})", text):
        if not entry.strip():
            continue
        part, equals, rank = (piece.strip() for piece in entry.rpartition("="))
        expected = "entries such as middle=8, output=32, each with a rank of 0 or more"
        require(bool(equals and part) and rank.isdigit(), "block_ranks", repr(entry.strip()), expected,
                "Write a part of the module's path, = and a rank; separate entries by commas.")
        _compiled("block_ranks", part, expected)
        ranks[part] = int(rank)
    return ranks


def _compiled(name: str, pattern: str, expected: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise InputError(name, repr(pattern), expected, f"The expression cannot be read: {error}.") from error

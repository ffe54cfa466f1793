"""Which layers learn, by which method, and how much: the choices, and what of them can be refused without a model."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ...errors import require
from ...patterns import check_pattern, matching, shortened
from .kinds import FULL, KINDS, Kind

HIGHEST_BLOCK_RANK = 99_999
LONGEST_BLOCK_RANKS = 10_000
"""Characters of all entries."""
SAMPLE_PATHS = ("input_blocks.1.1.transformer_blocks.0.attn2.to_out.0",
                "text_model.encoder.layers.11.self_attn.k_proj")
"""On these an expression is tried before any model is there, so that a slow one is refused where it was typed."""

# By the shape of names, for every network that ComfyUI loads: layers in a module whose name has attn or attention, and
# Flux' fused ones; in numbered blocks those of a feed-forward part. Norms and modulation are no part of either.
_NOT_SEEING = r"(?!(.*\.)?visual\.)"  # language models may see, too; what trains them here is text
_LEFT_OUT = rf"{_NOT_SEEING}(?!.*(modulation|norm[^.]*$|\.ln_\w+$|relative_attention_bias))"
_ATTENTION = (
    rf"{_LEFT_OUT}(.*\.)?\w*([Aa]ttn|[Aa]ttention(?!s\.))\w*\.(.+\.)?\w+|(.*\.)?single_(blocks|layers)\.\d+\.linear[12]"
)
_CROSS_ATTENTION_KV = r"(.*\.)?attn2\.(to_k|to_v)|(.*\.)?self_attn\.(k_proj|v_proj)|(.*\.)?SelfAttention\.[kv]"
_FEED_FORWARD = (
    rf"{_LEFT_OUT}(.*\.)?\d+\.(.+\.)?(ff(_\w+)?|ffn|(\w+_)?mlp|mlp[CX]|mlp_(img|txt|x|y)|(\w+_)?feed_forward|channelwise"
    r"|DenseReluDense)\.(.+\.)?\w+"
)
TARGETS = {
    "attention": _ATTENTION,
    "cross_attention_kv": _CROSS_ATTENTION_KV,  # Custom Diffusion's set; in a text encoder its own
    "attention_and_feed_forward": f"{_ATTENTION}|{_FEED_FORWARD}",
    # CLIP's projection has no name in adapter files of one-encoder models, and only SDXL reads what it gives.
    "all": rf"{_NOT_SEEING}(?!(.*\.)?(text_projection|lm_head)$).*",
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

    kind: str = "lora"
    rank: int = 16
    alpha: float = 16.0
    targets: str = "attention"
    block_ranks: str = ""

    def __post_init__(self) -> None:
        require(isinstance(self.kind, str) and self.kind in KINDS, "adapter kind", repr(self.kind),
                "one of " + ", ".join(KINDS), "Choose one of them.")
        require(self.rank >= 1, "rank", self.rank, "1 or more", "Use for example 16.")
        require(self.alpha > 0, "alpha", self.alpha, "a number above 0", "Use the rank's own value.")
        check_pattern("target_pattern", self.pattern, f"one of {', '.join(TARGETS)}, or a regular expression")
        self.find(SAMPLE_PATHS)
        self.ranks_of(SAMPLE_PATHS)
        require(not self.is_full or not parse_block_ranks(self.block_ranks), "block_ranks", repr(self.block_ranks),
                "nothing with the kind full", "All weights have no rank: clear block_ranks, or use targets.")

    @property
    def record(self) -> Kind:
        """What is known of the kind."""
        return KINDS[self.kind]

    @property
    def is_full(self) -> bool:
        """Whether the weights themselves learn, without an adapter."""
        return self.record is FULL

    @property
    def pattern(self) -> str:
        """The regular expression over module paths."""
        return TARGETS.get(self.targets, self.targets)

    def find(self, paths: Iterable[str]) -> list[str]:
        """The module paths that `targets` names.

        Raises:
            InputError: the expression takes too long.
        """
        return matching("target_pattern", [self.pattern], paths, whole=True)[self.pattern]

    def ranks_of(self, paths: Iterable[str]) -> dict[str, int]:
        """The rank of the layer at each path; 0 where it is left out.

        Raises:
            InputError: the expressions in `block_ranks` take too long.
        """
        ranks, entries = dict.fromkeys(paths, self.rank), parse_block_ranks(self.block_ranks)
        found = matching("block_ranks", entries, ranks, whole=False)
        for part in reversed(entries):  # an earlier entry overwrites a later one
            ranks |= dict.fromkeys(found[part], entries[part])
        return ranks


def parse_block_ranks(text: str) -> dict[str, int]:
    """Ranks by part of the network, from a text such as `middle=8, output=32`.

    Each entry, in a line of its own or after a comma, is a regular expression that is searched in a module's path, `=`
    and a rank; 0 leaves those layers out. The first entry that is found counts.

    Raises:
        InputError: for an entry that cannot be read.
    """
    require(len(text) <= LONGEST_BLOCK_RANKS, "block_ranks", f"a text of {len(text):,} characters",
            f"at most {LONGEST_BLOCK_RANKS:,} of them", "Write fewer or shorter entries.")
    ranks: dict[str, int] = {}
    for entry in re.split(r"\n|,(?![^{]*\})", text):
        if not entry.strip():
            continue
        part, equals, rank = (piece.strip() for piece in entry.rpartition("="))
        expected = f"entries such as middle=8, output=32, each with a rank of 0 to {HIGHEST_BLOCK_RANK:,}"
        require(bool(equals and part) and _is_rank(rank), "block_ranks", shortened(entry.strip()), expected,
                "Write a part of the module's path, = and a rank; separate entries by commas.")
        check_pattern("block_ranks", part, expected)
        ranks[part] = int(rank)
    return ranks


def _is_rank(text: str) -> bool:
    return text.isdecimal() and len(text) <= len(str(HIGHEST_BLOCK_RANK))

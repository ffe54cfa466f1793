"""Which words does the world's language have, and what are they in CLIP's byte-pair encoding?

`tokens.json` holds the ids of every word of captions and names, read once from CLIP's own tokenizer
(`python -m pocket.tokens`, which needs transformers and ComfyUI's vocabulary), so that training needs neither.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from .config import BOS, EOS, MAX_TOKENS
from .language import (
    ACCESSORY_PHRASES,
    ARTICLES,
    NEUTRAL,
    NUMERALS,
    PHOTO_PREFIXES,
    STYLE_PREFIXES,
    STYLE_SUFFIXES,
    plural,
)
from .looks import NAMED_COLOURS
from .names import name_words
from .places import PHRASES
from .placing import RELATIONS
from .rare_words import tokenizer_folder
from .world_paint import CAPTION_PATTERNS
from .world_shapes import NOUNS

TOKENS_FILE: Final = Path(__file__).with_name("tokens.json")
PIECES: Final = re.compile(r"[a-z]+|[,.\-]")


@dataclass(frozen=True)
class Vocabulary:
    """The rows that captions use: first those that learn, then the names'."""

    ids: Tensor
    """(N,) CLIP ids of the compact rows."""
    learned: int
    """How many of them train."""
    rows: dict[str, tuple[int, ...]]
    """Compact rows of each piece of a caption."""

    def encode(self, caption: str) -> np.ndarray:
        """Compact rows of a caption, (77,) int16, padded with EOS as ComfyUI does.

        Raises:
            KeyError: a word that base training does not know; the exported encoder knows all of CLIP's.
        """
        rows = [row for piece in PIECES.findall(caption) for row in self.rows[piece]][:MAX_TOKENS - 2]
        return np.array([0, *rows, *[1] * (MAX_TOKENS - 1 - len(rows))], dtype=np.int16)


@cache
def vocabulary() -> Vocabulary:
    """The compact vocabulary; row 0 is BOS, row 1 EOS."""
    known: dict[str, list[int]] = json.loads(TOKENS_FILE.read_text())
    names = {i for word in name_words() for i in known[word]}
    learned = sorted({i for ids in known.values() for i in ids} - names)
    ids = [BOS, EOS, *learned, *sorted(names)]
    row_of = {token: row for row, token in enumerate(ids)}
    rows = {piece: tuple(row_of[i] for i in tokens) for piece, tokens in known.items()}
    return Vocabulary(ids=torch.tensor(ids), learned=2 + len(learned), rows=rows)


def world_pieces() -> list[str]:
    """Every piece that captions of the world can hold."""
    texts = [*PHOTO_PREFIXES, *(p for group in STYLE_PREFIXES.values() for p in group), *STYLE_SUFFIXES.values(),
             *ACCESSORY_PHRASES.values(), *(article for article, _ in ARTICLES), "an", *NEUTRAL, *NUMERALS.values(),
             *RELATIONS.values(), *(p for group in PHRASES.values() for p in group), *CAPTION_PATTERNS, *NOUNS,
             *map(plural, NOUNS), *NAMED_COLOURS, "small", "large", ",", ".", "-"]
    return sorted({piece for text in texts for piece in PIECES.findall(text)} | set(name_words()))


def write_tokens() -> None:
    """Writes `tokens.json` with CLIP's own tokenizer."""
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(str(tokenizer_folder()))
    ids = {piece: tokenizer(piece, add_special_tokens=False)["input_ids"] for piece in world_pieces()}
    TOKENS_FILE.write_text(json.dumps(ids, indent=0) + "\n")


if __name__ == "__main__":
    write_tokens()

"""What one token of a loaded tokenizer says, as bytes: CLIP's and GPT-2's byte-level pieces, SentencePiece's."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from torch import Tensor
from transformers.convert_slow_tokenizer import bytes_to_unicode

from ....core.dci.phrases import Token

END, SPACE, BYTE_SPACE = "</w>", "\u2581", "\u0120"
"""CLIP's end of a word, SentencePiece's space before one, and GPT-2's."""
_FALLBACK = re.compile(r"<0x([0-9A-F]{2})>")


def piece_of(tokenizer: Any) -> Callable[[Token], bytes | None]:
    """For a token of this SDTokenizer its bytes, with a space where a word begins or ends; None for learned vectors and
    for what has no characters (unknown words, special tokens)."""
    entries = tokenizer.inv_vocab
    own = getattr(tokenizer, "tokenizer", None)
    special = set(getattr(own, "all_special_ids", ()) or ())
    is_byte_level = any(entry.endswith(END) or entry.startswith(BYTE_SPACE) for entry in entries.values())
    read = _from_bytes if is_byte_level else _from_text

    def piece(token: Token) -> bytes | None:
        if isinstance(token, Tensor) or token in special or token not in entries:
            return None
        return read(entries[token])

    return piece


def _from_bytes(entry: str) -> bytes | None:
    """A byte-level piece: each character stands for one byte."""
    word = entry.removesuffix(END)
    if not all(character in _bytes() for character in word):
        return None
    return bytes(_bytes()[character] for character in word) + (b" " if entry.endswith(END) else b"")


def _from_text(entry: str) -> bytes | None:
    """A SentencePiece piece: its text, or one byte of a character that the vocabulary lacks."""
    byte = _FALLBACK.fullmatch(entry)
    return bytes([int(byte[1], 16)]) if byte else entry.replace(SPACE, " ").encode()


@cache
def _bytes() -> dict[str, int]:
    return {character: byte for byte, character in bytes_to_unicode().items()}

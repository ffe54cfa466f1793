"""A loaded CLIP's vocabularies and text embeddings, as the identifier tools of core want them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from comfy.sd1_clip import SDTokenizer
from torch import Tensor
from torch.nn.functional import normalize

from ....core.subject.vocabulary import Vocabulary
from ..pocket_files import NAMES, check_pocket_files
from .token_pieces import BYTE_SPACE, END, SPACE

CLIP_RARE_FROM = 40_000
"""CLIP's byte-pair ids follow the frequency of merges; the high end of the 49,406 is rare."""
T5_RARE = range(5_000, 10_001)
"""DreamBooth's range for T5-XXL (arXiv:2208.12242, 3.2)."""
RARE_FROM = 40_000
"""In other vocabularies, whose ids follow frequency too; of one that is smaller the upper half is rare."""
COMMON_BELOW = 2_000
"""Ids of everyday pieces, in every vocabulary."""
T5_PAD = 0
T5_SENTINEL, CONTINUED, CLASSIFIER = "<extra_id_0>", "##", "[CLS]"
"""An entry that only T5's vocabularies have, BERT's mark of a word that goes on, and an entry that only BERT's have."""


def vocabularies_of(clip: Any) -> list[Vocabulary]:
    """One vocabulary per loaded text encoder; those that read bytes, not words, are left out (ByT5), and so are those
    whose tokenizer lost the spaces between words, as Llama's does with some versions of transformers."""
    tokenizers = {key: _tokenizer(clip.tokenizer, key) for key in clip.tokenize("") if _is_loaded(clip, key)}
    known = [_vocabulary(key, tokenizer) for key, tokenizer in tokenizers.items() if tokenizer is not None]
    return [vocabulary for vocabulary in known if vocabulary is not None and _keeps_words_apart(vocabulary)]


def trained_names(clip: Any) -> frozenset[str]:
    """Rare words that this CLIP's model was trained on, where it says so, as the pocket model does.

    Raises:
        InputError: the file that lists them is missing or damaged.
    """
    names = getattr(clip.cond_stage_model, "trained_names", None)
    if names is None:
        return frozenset()
    check_pocket_files("clip", NAMES)
    return frozenset(names())


def unknown_words(clip: Any, words: Iterable[str]) -> tuple[str, ...]:
    """Those of the words that this CLIP was never taught, where it can tell, as the pocket model can."""
    was_taught = getattr(clip.cond_stage_model, "was_taught", None)
    if was_taught is None:
        return ()
    tokenize = _content_ids(clip.tokenizer.clip_l)
    return tuple(word for word in words if not was_taught([index for index in tokenize(word) if index >= 0]))


def text_embedder(clip: Any) -> Callable[[str], Tensor]:
    """text -> (D,): CLIP's pooled output, and beside it the mean of T5's rows where the model has a T5; of a language
    model alone the mean of its rows from the text's first token on.

    Each part has length 1, so that a cosine of two texts is the mean of the encoders' own.
    """

    def embed(text: str) -> Tensor:
        tokens = clip.tokenize(text)
        context, pooled = clip.encode_from_tokens(tokens, return_pooled=True)
        parts = [] if pooled is None else [pooled[0]]
        t5 = [token for kind in tokens if kind.startswith("t5") and _is_loaded(clip, kind)
              for chunk in tokens[kind] for token, *_ in chunk]
        if t5:  # its rows are the last ones of the context
            content = sum(torch.is_tensor(token) or token != T5_PAD for token in t5)
            parts.append(context[0, -len(t5):][:content].mean(dim=0))
        return torch.cat([normalize(part.detach().float().cpu(), dim=0)
                          for part in parts or [_text_rows(clip, tokens, context[0]).mean(dim=0)]])

    return embed


def _text_rows(clip: Any, tokens: Mapping[str, Any], context: Tensor) -> Tensor:
    """The rows of a language model that a text can change: behind the template's beginning, without padding."""
    kind = next(iter(tokens))
    pad = getattr(_tokenizer(clip.tokenizer, kind), "pad_token", None)
    ids, empty = ([token for chunk in chunks[kind] for token, *_ in chunk] for chunks in (tokens, clip.tokenize("")))
    start = next((place for place, pair in enumerate(zip(ids, empty, strict=False)) if not _is_same(*pair)), 0)
    padding = next((place for place, token in enumerate(reversed(ids)) if not _is_same(token, pad)), 0)
    rows = context[-(len(ids) - start):] if len(ids) > start else context  # encoders cut rows at the front alone
    return rows[:len(rows) - padding] if padding < len(rows) else rows


def _is_same(token: Any, other: Any) -> bool:
    return not torch.is_tensor(token) and not torch.is_tensor(other) and token == other


def _is_loaded(clip: Any, kind: str) -> bool:
    """Whether a tokenizer's text encoder is there: SD3's checkpoints come without T5, too."""
    model = getattr(clip, "cond_stage_model", None)
    return all(getattr(model, name, True) is not None for name in (kind, f"clip_{kind}"))


def _tokenizer(tokenizers: Any, key: str) -> Any | None:
    found = getattr(tokenizers, f"clip_{key}", None) or getattr(tokenizers, key, None)
    return found if isinstance(found, SDTokenizer) else None


@dataclass(frozen=True, kw_only=True)
class _Entries:
    """What a tokenizer's entries are: see `Vocabulary`."""

    is_clip: bool
    words: dict[int, str]
    pieces: dict[int, str]
    rare: range


_ENTRIES: WeakKeyDictionary[SDTokenizer, _Entries] = WeakKeyDictionary()
"""Of each tokenizer, sorted once: there are 49,408 of them in CLIP's, and up to five times as many in others."""


def _entries(tokenizer: SDTokenizer) -> _Entries:
    if tokenizer not in _ENTRIES:
        _ENTRIES[tokenizer] = _sorted({index: entry for index, entry in tokenizer.inv_vocab.items()
                                       if isinstance(entry, str)})
    return _ENTRIES[tokenizer]


def _sorted(entries: Mapping[int, str]) -> _Entries:
    words = whole_words(entries)
    pieces = {index: spelled for index, entry in entries.items() if (spelled := _spelled(entry)).isascii()}
    if is_clip(entries):
        rare = range(CLIP_RARE_FROM, max(entries) + 1)
    elif len(entries) < RARE_FROM and T5_SENTINEL in entries.values():  # UMT5 and mT5 are larger
        rare = T5_RARE
    else:
        rare = range(min(RARE_FROM, len(entries) // 2), max(entries, default=-1) + 1)
    return _Entries(is_clip=is_clip(entries), pieces=pieces, rare=rare,
                    words={index: word for index, word in words.items() if index in pieces})  # not spelled as bytes


def _vocabulary(key: str, tokenizer: SDTokenizer) -> Vocabulary | None:
    entries = _entries(tokenizer)
    if not entries.words:
        return None
    name, tokenize = f"clip_{key}", tokenizer.tokenize_with_weights
    if not entries.is_clip:  # a chat template, which some tokenizers write around every text, says nothing of a word
        name, tokenize = key, partial(SDTokenizer.tokenize_with_weights, tokenizer)
    return Vocabulary(name=name, words=entries.words, pieces=entries.pieces, rare=entries.rare,
                      tokenize=_content_ids(tokenizer, tokenize), common=COMMON_BELOW)


def is_clip(entries: Mapping[int, str]) -> bool:
    """Whether these are the entries of CLIP's tokenizer."""
    return sum(entry.endswith(END) for entry in entries.values()) > len(entries) // 3


def whole_words(entries: Mapping[int, str]) -> dict[int, str]:
    """Of a tokenizer's entries those that are whole words or begin one, as they are spelled: CLIP's, SentencePiece's,
    byte-level BPE's, BERT's; none where it has no mark for a word."""
    if is_clip(entries):
        return {index: entry.removesuffix(END) for index, entry in entries.items() if entry.endswith(END)}
    if any(entry.startswith(CONTINUED) for entry in entries.values()) and CLASSIFIER in entries.values():
        return {index: entry for index, entry in entries.items() if not entry.startswith(CONTINUED)}
    return {index: entry[1:] for index, entry in entries.items() if entry[:1] in (SPACE, BYTE_SPACE)}


def _keeps_words_apart(vocabulary: Vocabulary) -> bool:
    return vocabulary.read("dog") not in (None, ()) and vocabulary.read("dog") != tuple(vocabulary.tokenize("adog"))[1:]


def _spelled(entry: str) -> str:
    return entry.removesuffix(END).removeprefix(SPACE).removeprefix(BYTE_SPACE).removeprefix(CONTINUED)


def _content_ids(tokenizer: SDTokenizer, read: Callable[[str], Any] | None = None) -> Callable[[str], list[int]]:
    """text -> ids without start, end and padding; -1 stands for the vectors of a learned embedding."""
    read = read or tokenizer.tokenize_with_weights
    specials = {tokenizer.start_token, tokenizer.end_token, tokenizer.pad_token}

    def tokenize(text: str) -> list[int]:
        entries = [entry[0] for chunk in read(text) for entry in chunk]
        return [
            -1 if torch.is_tensor(entry) else int(entry)
            for entry in entries
            if torch.is_tensor(entry) or entry not in specials
        ]

    return tokenize

"""A loaded CLIP's vocabularies and text embeddings, as the identifier tools of core want them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch
from comfy.sd1_clip import SDTokenizer
from torch import Tensor
from torch.nn.functional import normalize

from ....core.subject.identifier import Vocabulary

CLIP_RARE_FROM = 40_000
"""CLIP's byte-pair ids follow the frequency of merges; the high end of the 49,406 is rare."""
T5_RARE = range(5_000, 10_001)
"""DreamBooth's range for T5-XXL (arXiv:2208.12242, 3.2)."""
T5_PAD = 0


def vocabularies_of(clip: Any) -> list[Vocabulary]:
    """One vocabulary per loaded text encoder of CLIP's or T5's kind in a CLIP object; other kinds are left out."""
    tokenizers = {key: _tokenizer(clip.tokenizer, key) for key in clip.tokenize("") if _is_loaded(clip, key)}
    known = [_vocabulary(key, tokenizer) for key, tokenizer in tokenizers.items() if tokenizer is not None]
    return [vocabulary for vocabulary in known if vocabulary is not None]


@cache
def stock_clip_vocabulary() -> Vocabulary:
    """CLIP's vocabulary from ComfyUI's own files, for nodes that have no CLIP connected."""
    vocabulary = _vocabulary("l", SDTokenizer())
    assert vocabulary is not None  # ComfyUI's own tokenizer is CLIP's
    return vocabulary


def trained_names(clip: Any) -> frozenset[str]:
    """Rare words that this CLIP's model was trained on, where it says so, as the pocket model does."""
    names = getattr(clip.cond_stage_model, "trained_names", None)
    return frozenset() if names is None else names()


def unknown_words(clip: Any, words: Iterable[str]) -> tuple[str, ...]:
    """Those of the words that this CLIP was never taught, where it can tell, as the pocket model can."""
    was_taught = getattr(clip.cond_stage_model, "was_taught", None)
    if was_taught is None:
        return ()
    tokenize = _content_ids(clip.tokenizer.clip_l)
    return tuple(word for word in words if not was_taught([index for index in tokenize(word) if index >= 0]))


def text_embedder(clip: Any) -> Callable[[str], Tensor]:
    """text -> (D,): CLIP's pooled output, and beside it the mean of T5's rows where the model has a T5.

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
        return torch.cat([normalize(part.detach().float().cpu(), dim=0) for part in parts or [context[0].mean(dim=0)]])

    return embed


def _is_loaded(clip: Any, kind: str) -> bool:
    """Whether a tokenizer's text encoder is there: SD3's checkpoints come without T5, too."""
    model = getattr(clip, "cond_stage_model", None)
    return all(getattr(model, name, True) is not None for name in (kind, f"clip_{kind}"))


def _tokenizer(tokenizers: Any, key: str) -> Any | None:
    found = getattr(tokenizers, f"clip_{key}", None) or getattr(tokenizers, key, None)
    return found if isinstance(found, SDTokenizer) else None


def _vocabulary(key: str, tokenizer: SDTokenizer) -> Vocabulary | None:
    entries = tokenizer.inv_vocab
    clip_words = {index: entry[:-4] for index, entry in entries.items() if entry.endswith("</w>")}
    t5_words = {index: entry[1:] for index, entry in entries.items() if entry.startswith("\u2581")}
    if len(clip_words) > len(entries) // 3:
        rare, words = range(CLIP_RARE_FROM, max(entries) + 1), clip_words
    elif len(entries) < 40_000 and len(t5_words) > len(entries) // 3:
        rare, words = T5_RARE, t5_words
    else:
        return None
    pieces = {index: _spelled(entry) for index, entry in entries.items() if _spelled(entry).isascii()}
    plain = {index: word for index, word in words.items() if index in pieces}  # others are spelled as bytes
    return Vocabulary(
        name=key if key.startswith("t5") else f"clip_{key}",
        words=plain,
        pieces=pieces,
        rare=rare,
        tokenize=_content_ids(tokenizer),
    )


def _spelled(entry: str) -> str:
    return entry.removesuffix("</w>").removeprefix("\u2581")


def _content_ids(tokenizer: SDTokenizer) -> Callable[[str], list[int]]:
    """text -> ids without start, end and padding; -1 stands for the vectors of a learned embedding."""
    specials = {tokenizer.start_token, tokenizer.end_token, tokenizer.pad_token}

    def tokenize(text: str) -> list[int]:
        entries = [entry[0] for chunk in tokenizer.tokenize_with_weights(text) for entry in chunk]
        return [
            -1 if torch.is_tensor(entry) else int(entry)
            for entry in entries
            if torch.is_tensor(entry) or entry not in specials
        ]

    return tokenize

"""Learned vectors in a CLIP: prompts tokenized with vectors in a word's place, and a CLIP that knows them as
`embedding:<name>`.

Vectors go the way of ComfyUI's own textual inversions, so that weights in brackets, chunks of 77 tokens and what stock
CLIPTextEncode makes of a saved file agree by construction.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from torch import Tensor

from ....core.learning.token_vectors import replace_words
from ....core.model.contracts import WordVectors
from ....core.wording import fold

CLIP_ENCODERS = {"l": "clip_l", "g": "clip_g", "h": "clip_h"}
"""Tokenizer key of each CLIP text encoder, and its name in a CLIP, in its tokenizer and in embedding files."""
PREFIX = "embedding:"


def reading_clip(clip: Any, vectors: WordVectors) -> Any:
    """A clone of the CLIP that reads `embedding:<name>` as these vectors (m, D); other names are files, as ever.

    The CLIP itself, its weights and its files are left alone.
    """
    clone = clip.clone()
    clone.tokenizer = _reading_tokenizer(clip.tokenizer, vectors)
    return clone


def tokenize_with_vectors(clip: Any, prompt: str, vectors: WordVectors) -> dict[str, Any]:
    """What `clip.tokenize` gives for a prompt in which words are read as vectors, with their graph."""
    if not vectors:
        return dict(clip.tokenize(prompt))
    names = {word: f"learned{number}" for number, word in enumerate(vectors)}
    reader = copy.copy(clip)
    reader.tokenizer = _reading_tokenizer(clip.tokenizer, {names[word]: found for word, found in vectors.items()})
    return dict(reader.tokenize(replace_words(prompt, names, lambda word: f" {PREFIX}{names[word]} ")))


def with_embedding_names(prompt: str, names: Mapping[str, str]) -> str:
    """The prompt with each learned word written as `embedding:<its name>`, as stock nodes read it."""
    return " ".join(replace_words(prompt, names, lambda word: f" {PREFIX}{names[word]} ").split()) if names else prompt


def embedding_name(word: str) -> str:
    """A file name without ending for a word: letters, digits, - and _ stay."""
    return re.sub(r"[^\w-]+", "_", word.strip()).strip("_") or "learned"


def embedding_names(words: Iterable[str]) -> dict[str, str]:
    """For each word the name that `embedding:` finds it by, each one once."""
    names: dict[str, str] = {}
    for word in words:
        plain = embedding_name(word)
        taken = set(names.values())
        names[word] = next(name for name in (plain, *(f"{plain}_{n}" for n in range(2, 999))) if name not in taken)
    return names


def file_tensors(vectors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A word's vectors by text encoder, under the keys of embedding files."""
    return {CLIP_ENCODERS[kind]: tensor for kind, tensor in vectors.items()}


def from_file_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The vectors that `file_tensors` named."""
    return {kind: tensors[name] for kind, name in CLIP_ENCODERS.items() if name in tensors}


def _reading_tokenizer(tokenizer: Any, vectors: WordVectors) -> Any:
    copied = copy.copy(tokenizer)
    for kind, attribute in CLIP_ENCODERS.items():
        part = getattr(tokenizer, attribute, None)
        if part is not None:
            own = {name: found[kind] for name, found in vectors.items() if kind in found}
            setattr(copied, attribute, _reading_part(part, own))
    return copied


def _reading_part(part: Any, vectors: Mapping[str, Tensor]) -> Any:
    """A copy of one encoder's tokenizer with a look-up before its own."""
    copied = copy.copy(part)
    copied.embedding_directory = [] if part.embedding_directory is None else part.embedding_directory
    before = getattr(part, "learned_names", ())
    others = part._try_get_embedding if part.embedding_directory or before else None
    copied._try_get_embedding = _look_up(vectors, others)
    copied.learned_names = (*vectors, *before)
    copied.tokenize_with_weights = partial(_tokenize_apart, copied)
    return copied


def _tokenize_apart(part: Any, text: str, *arguments: Any, **settings: Any) -> Any:
    """SDTokenizer's own method. It sees a name only after a space or an opening bracket: learned ones get one."""
    return type(part).tokenize_with_weights(part, _set_apart(text, part.learned_names), *arguments, **settings)


def _set_apart(text: str, names: Iterable[str]) -> str:
    """The text with a space before each `embedding:<name>` that stands behind punctuation: '"embedding:sks"'."""
    return re.sub(rf"(?:(?<=\\\()|(?<=[^\s(\w]))(?={PREFIX}{_any_of(names)})", " ", text, flags=re.IGNORECASE)


def _any_of(names: Iterable[str]) -> str:
    """A pattern for any of the names, whole: 'sks' is neither in 'sksy' nor in 'sks2'."""
    return rf"(?:{'|'.join(map(re.escape, sorted(names, key=len, reverse=True))) or '(?!)'})(?!\w)"


def _look_up(vectors: Mapping[str, Tensor], files: Callable[[str], Any] | None) -> Callable[[str], Any]:
    """(vectors or None, the name as written, what is left of the text), as SDTokenizer looks up a name.

    A learned name ends at any punctuation and is found in any case; a file's longer name ('sks-2', 'sks.pt') goes
    before it.
    """
    own = re.compile(_any_of(vectors), re.IGNORECASE)
    folded = {fold(name): vectors[name] for name in reversed(list(vectors))} | dict(vectors)

    def look_up(text: str) -> Any:
        text = text.strip()
        found = own.match(text)
        rest = text[found.end():] if found else ""
        if files is not None and text and (found is None or re.match(r"[-./\\]\w", rest)):
            from_file = files(text)
            if found is None or from_file[0] is not None:
                return from_file
        if found is None:
            written, _, rest = text.partition(" ")
            return None, written, rest.strip()
        return folded.get(found[0], folded.get(fold(found[0]))), found[0], rest.strip()

    return look_up

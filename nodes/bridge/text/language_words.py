"""Words of many languages, from the tokenizers whose files ComfyUI brings along, whatever encoder is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import comfy.text_encoders
from comfy.text_encoders.spiece_tokenizer import SPieceTokenizer

from ....core.subject.known_words import KnownWords, known_words
from .vocabulary import CLIP_RARE_FROM, whole_words

FOLDER = Path(comfy.text_encoders.__path__[0])
CLIP_FILE = FOLDER.parent / "sd1_tokenizer/vocab.json"
T5_FILE = FOLDER / "t5_tokenizer/tokenizer.json"
EUROPEAN_FILE = FOLDER / "t5_pile_tokenizer/tokenizer.model"
LANGUAGE_MODEL_FILES = (FOLDER / "qwen25_tokenizer/vocab.json", FOLDER / "qwen35_tokenizer/vocab.json")
"""Byte-level vocabularies of 150,000 and 250,000 tokens, from texts of a hundred languages."""


@cache
def language_words() -> KnownWords:
    """Read once; a file that another version of ComfyUI does not have is evidence that is missing, not an error."""
    clip = [word for index, word in whole_words(_entries(CLIP_FILE)).items() if index < CLIP_RARE_FROM]
    t5 = [*whole_words(_entries(T5_FILE)).values()]
    models = [word for file in LANGUAGE_MODEL_FILES for word in whole_words(_entries(file)).values()]
    return known_words(tokens=[*models, *t5], words=[word for word in t5 if word.islower()],
                       frequent=[*clip, *_european_words()])


def _european_words() -> list[str]:
    """Lower-case words of Llama 1's SentencePiece vocabulary, of twenty languages in Latin and Cyrillic letters."""
    if not EUROPEAN_FILE.is_file():
        return []
    entries = {index: entry for entry, index in SPieceTokenizer.from_pretrained(str(EUROPEAN_FILE)).get_vocab().items()}
    return [word for word in whole_words(entries).values() if word.islower()]


def _entries(file: Path) -> Mapping[int, str]:
    """id -> entry of a tokenizer's file: a table of entries, or SentencePiece's list of pieces with their scores."""
    if not file.is_file():
        return {}
    content = json.loads(file.read_text(encoding="utf-8"))
    if isinstance(content.get("model"), dict):
        return {index: piece for index, (piece, _) in enumerate(content["model"]["vocab"])}
    return {index: entry for entry, index in content.items()}

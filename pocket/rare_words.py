"""Which rare tokens name the individuals of base training, and which stay unseen for users' identifiers?"""

from __future__ import annotations

import json
import os
import random
import re
from pathlib import Path
from typing import Final

NAMES_FILE: Final = Path(__file__).with_name("names.json")
LOWEST_ID: Final = 40000
"""CLIP's ids follow the frequency of merges: above this one, whole words are rare."""
INDIVIDUALS: Final = 150
ALWAYS_RESERVED: Final = ("sks", "ohwx")
"""Identifiers the field uses: never an individual's name."""


def tokenizer_folder() -> Path:
    """The folder with CLIP's vocabulary inside a ComfyUI checkout (COMFYUI_DIR, or the one `make setup` made)."""
    default = Path(__file__).parent.parent / ".comfyui" / "ComfyUI"
    return Path(os.environ.get("COMFYUI_DIR", default)) / "comfy" / "sd1_tokenizer"


def rare_words(vocabulary: dict[str, int]) -> list[str]:
    """Whole-word tokens of three to five lower-case letters with ids of at least `LOWEST_ID`, in id order."""
    rare = [(i, w[:-4]) for w, i in vocabulary.items() if i >= LOWEST_ID and re.fullmatch(r"[a-z]{3,5}</w>", w)]
    return [w for _, w in sorted(rare)]


def choose_names(vocabulary: dict[str, int], count: int = INDIVIDUALS) -> dict[str, list[str]]:
    """Splits the rare words into `names` (used in base training) and `reserved` (never seen there)."""
    rare = rare_words(vocabulary)
    free = [w for w in rare if len(w) < 5 and w not in ALWAYS_RESERVED]
    names = sorted(random.Random(0).sample(free, count))
    return {"names": names, "reserved": sorted(set(rare) - set(names))}


def write_names() -> None:
    """Writes `names.json` from CLIP's vocabulary; done once, the file is committed."""
    vocabulary = json.loads((tokenizer_folder() / "vocab.json").read_text(encoding="utf-8"))
    NAMES_FILE.write_text(json.dumps(choose_names(vocabulary), indent=0) + "\n")


def load_names() -> tuple[str, ...]:
    """The names of the individuals, in the order of their numbers."""
    return tuple(json.loads(NAMES_FILE.read_text())["names"])


def load_reserved() -> tuple[str, ...]:
    """The rare words that base training never shows."""
    return tuple(json.loads(NAMES_FILE.read_text())["reserved"])


if __name__ == "__main__":
    write_names()

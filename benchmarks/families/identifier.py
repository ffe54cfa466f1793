"""Can an identifier be picked for the family's text encoders?"""

from __future__ import annotations

import functools

import torch

from ...core.errors import InputError
from ...core.subject.identifier import find_candidates, rank, survives_round_trip
from ...nodes.bridge.text.vocabulary import text_embedder, vocabularies_of
from .clips import build_clip
from .rig import Rig
from .verdict import NotThere

NOUN = "dog"


def identifier(rig: Rig) -> str:
    """"works", or the words of the refusal."""
    if rig.case.clip is None:
        raise NotThere("ComfyUI brings no tokenizer for it, it comes with the encoder's file")
    return picked(rig.case.clip)


@functools.cache
def picked(kind: str) -> str:
    """The same for a kind of CLIP, as Identifier Picker does it."""
    with torch.inference_mode():
        clip = build_clip(kind)
        try:
            vocabularies = vocabularies_of(clip)
            found = find_candidates(vocabularies, class_noun=NOUN, tokens=1, count=2, seed=0, avoid=frozenset())
            best = rank(found, NOUN, text_embedder(clip))[0].text
        except InputError as refusal:
            return f"refused: {refusal}"
        return "works" if survives_round_trip(best, NOUN, vocabularies) else f"{best!r} is split in a caption"

"""Can an identifier be picked for the family's text encoders?"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch

from ...core.errors import InputError
from ...core.subject.identifier import rank
from ...nodes.bridge.text.identifiers import identifiers_for
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
            found = identifiers_for(vocabularies, class_noun=NOUN, tokens=1, count=2, seed=0)
            best = rank(found, NOUN, text_embedder(clip))[0]
        except InputError as refusal:
            return f"refused: {refusal}"
        is_kept = all(is_inside(best.token_ids[vocabulary.name], vocabulary.tokenize(f"a {best.text} {NOUN}"))
                      for vocabulary in vocabularies)
        return "works" if is_kept else f"fails: {best.text} is other tokens in a caption"


def is_inside(part: Sequence[int], whole: Sequence[int]) -> bool:
    """Whether the numbers stand in the whole, one behind the other."""
    return any(tuple(whole[start:start + len(part)]) == tuple(part) for start in range(len(whole)))

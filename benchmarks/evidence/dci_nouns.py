"""The auxiliary noun of the DCI bench: the first that is allowed, or any of the world's."""

from __future__ import annotations

import random

from ...core.dci.nouns import allowed_nouns, preset_nouns
from ...pocket.subjects import NOUNS
from .bench import Prompt


def candidates(class_noun: str) -> tuple[str, ...]:
    """The world's nouns but the subject's own."""
    return allowed_nouns(class_noun, NOUNS)


def first_noun(class_noun: str) -> str:
    """What Auxiliary Noun Picker gives for any kind of thing: 'cat', or 'dog' for a cat."""
    return allowed_nouns(class_noun, preset_nouns(class_noun, "any"))[0]


def random_noun(class_noun: str, number: int, prompt: Prompt) -> str:
    """One of the candidates, by subject and prompt."""
    return random.Random(f"{number} {prompt.template}").choice(candidates(class_noun))

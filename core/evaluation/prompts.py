"""What is sampled to evaluate a personalization: prompts, by kind.

A line is a prompt: a template with {V} and {noun}, or a text with the identifier in it. A line that begins with # names
the kind of those below it; where none does, the papers' own templates are recognised (`core.subject_prompts`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import require
from ..subject.prompts import KINDS
from ..subject.subject import fill
from ..wording import has_word
from .metrics import without_identifier

HEADING = "#"
OTHER = "prompts"
"""The kind of prompts that belong to none."""
KNOWN = ("{V}", "{noun}")
PLACEHOLDER = re.compile(r"\{[^{}]*\}")
EXAMPLE = """# places
a {V} {noun} in the snow
a {V} {noun} on the beach
a {V} {noun} in the jungle
a {V} {noun} on top of a wooden floor
a {V} {noun} with a city in the background
# properties
a red {V} {noun}
a purple {V} {noun}
a shiny {V} {noun}
a wet {V} {noun}
a cube shaped {V} {noun}"""
"""Ten of DreamBooth's prompts."""


@dataclass(frozen=True, kw_only=True)
class EvaluationPrompt:
    """One prompt.

    Attributes:
        text: what is sampled, with the identifier.
        class_text: the same without it, which CLIP-T compares with and by which runs of two models are paired.
        kind: what it tries.
    """

    text: str
    class_text: str
    kind: str


def check_prompts(texts: Sequence[str]) -> list[tuple[str, str]]:
    """(kind, prompt) line by line, as far as can be said before there is a subject; an empty kind is not named.

    Raises:
        InputError: there is no prompt, or a placeholder that nobody fills.
    """
    found, kind = [], ""
    for line in (line.strip() for text in texts for line in text.splitlines()):
        if line.startswith(HEADING):
            kind = line.lstrip(HEADING).strip()
        elif line:
            unknown = [name for name in PLACEHOLDER.findall(line) if name not in KNOWN]
            require(not unknown, "prompts", f"{', '.join(unknown)} in {line!r}", "only {V} and {noun}",
                    "Write {V} for the identifier and {noun} for the class noun.")
            found.append((kind, line))
    require(bool(found), "prompts", "no prompt", "one or more lines",
            "Write for example 'a {V} {noun} in the snow', or connect a list of prompts.")
    return found


def read_prompts(texts: Sequence[str], identifier: str, class_noun: str) -> tuple[EvaluationPrompt, ...]:
    """All lines of the texts, filled.

    Raises:
        InputError: as `check_prompts`; a prompt without the identifier, or one that is there twice.
    """
    prompts: list[EvaluationPrompt] = []
    for kind, line in check_prompts(texts):
        text = fill(line, identifier, class_noun)
        require(has_word(text, identifier), "prompts",
                f"{text!r}, without {identifier!r}", "the subject's identifier in every prompt",
                "Write {V} where it belongs, or give the identifier that the prompts have.")
        require(all(text != other.text for other in prompts), "prompts", f"{text!r} twice", "every prompt once",
                "Delete one of them; more pictures of a prompt come from more seeds.")
        own = kind or kind_of(text, identifier, class_noun)
        prompts.append(EvaluationPrompt(text=text, class_text=without_identifier(text, identifier), kind=own))
    return tuple(prompts)


def kind_of(text: str, identifier: str, class_noun: str) -> str:
    """The smallest of the papers' kinds that has this prompt, or `OTHER`."""
    having = [kind for kind, templates in KINDS.items()
              if text in {fill(template, identifier, class_noun) for template in templates}]
    return min(having, key=lambda kind: len(KINDS[kind]), default=OTHER)


def kinds_of(prompts: Sequence[EvaluationPrompt]) -> tuple[str, ...]:
    """The kinds in the order in which they first come."""
    return tuple(dict.fromkeys(prompt.kind for prompt in prompts))

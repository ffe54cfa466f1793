"""A prompt about one or several subjects, and the prompts that DCI makes of it.

Source: Jin et al., ECCV 2024, section 3.3; METHODS 2, DCI (several subjects: one auxiliary prompt, *ours*).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import require
from .nouns import auxiliary_noun_warning, check_auxiliary_noun, fold
from .phrases import drop_empty_groups, replace_phrase

_IRREGULAR = dict(pair.split("/") for pair in (
    "man/men woman/women child/children person/people mouse/mice goose/geese foot/feet tooth/teeth wolf/wolves "
    "knife/knives leaf/leaves calf/calves sheep/sheep fish/fish deer/deer").split())
_GONE = "\0"


@dataclass(frozen=True, kw_only=True)
class DCISubject:
    """Who is drawn, and the noun that stands in for them in the auxiliary branch.

    Attributes:
        identifier: V.
        class_noun: one word or several, or empty: then V alone is the subject.
        auxiliary_noun: any noun but the class noun.
    """

    identifier: str
    class_noun: str
    auxiliary_noun: str

    def __post_init__(self) -> None:
        require(bool(self.identifier.strip()), "identifier", "an empty text", "the subject's identifier",
                "Type the identifier the model was trained with.")
        check_auxiliary_noun(self.class_noun, self.auxiliary_noun)
        words = fold(self.auxiliary_noun).split()
        require(not set(fold(self.identifier).split()) & set(words), "auxiliary_noun", repr(self.auxiliary_noun),
                f"a noun without the identifier {self.identifier!r}", "Name another kind of thing in plain words.")

    @property
    def nouns(self) -> tuple[tuple[str, str], ...]:
        """The class noun and what replaces it, in the singular and, where that differs (not 'fish'), in the plural."""
        given, many = (self.class_noun, self.auxiliary_noun), plural(self.class_noun)
        has_plural = bool(self.class_noun.strip()) and many != self.class_noun
        return (given, (many, plural(self.auxiliary_noun))) if has_plural else (given,)

    @property
    def forms(self) -> tuple[tuple[str, str], ...]:
        """'V noun' and what replaces it, in the singular and in the plural."""
        return tuple((" ".join((self.identifier + " " + noun).split()), other) for noun, other in self.nouns)


@dataclass(frozen=True, kw_only=True)
class SubjectPrompt:
    """A prompt about one subject or several.

    Attributes:
        prompt: holds 'V noun' of every subject, once or more.
        subjects: one or more.
        prompt_l: another text for the second text encoder (CLIP-L of SDXL), or None.
        split: each branch sees only the part that it is responsible for (ablation).
    """

    prompt: str
    subjects: tuple[DCISubject, ...]
    prompt_l: str | None = None
    split: bool = False

    def __post_init__(self) -> None:
        phrases = [fold(subject.forms[0][0]) for subject in self.subjects]
        require(len(set(phrases)) == len(phrases), "identifier", ", ".join(phrases), "another phrase for every subject",
                "Name each subject once.")

    @property
    def texts(self) -> tuple[str, ...]:
        """The prompt of every text encoder that has one of its own."""
        return (self.prompt,) if self.prompt_l is None else (self.prompt, self.prompt_l)

    @property
    def auxiliary_texts(self) -> tuple[str, ...]:
        """`texts` with every 'V noun' replaced by its auxiliary noun, weights kept."""
        return tuple(replace_subjects(text, self.subjects) for text in self.texts)

    @property
    def concept_branch(self) -> tuple[str, ...]:
        """What the concept branch sees: the prompt, or with split prompts 'V noun' alone."""
        return (", ".join(subject.forms[0][0] for subject in self.subjects),) if self.split else self.texts

    @property
    def auxiliary_branch(self) -> tuple[str, ...]:
        """What the auxiliary branch sees: the auxiliary prompt, or with split prompts the prompt without 'V noun'."""
        if not self.split:
            return self.auxiliary_texts
        gone = replace_subjects(self.prompt, self.subjects, to=_GONE)
        rest = re.sub(rf"\b(?:an?|the)\s+(?=\(*{_GONE})", "", gone, flags=re.IGNORECASE).replace(_GONE, "")
        return (" ".join(drop_empty_groups(rest).split()),)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed but weakens DCI, for the UI."""
        found = [auxiliary_noun_warning(subject.class_noun, subject.auxiliary_noun) for subject in self.subjects]
        if not all(subject.class_noun.strip() for subject in self.subjects):
            found.append("The class noun is empty: only the identifier marks the subject.")
        if fold(self.auxiliary_texts[0]) in {fold(subject.auxiliary_noun) for subject in self.subjects}:
            found.append("The prompt holds nothing but the subject: the auxiliary branch has nothing to add.")
        return tuple(text for text in found if text)


def replace_subjects(prompt: str, subjects: tuple[DCISubject, ...], to: str | None = None) -> str:
    """The prompt with every subject replaced by its auxiliary noun, or by `to`."""
    for subject in subjects:
        for noun, auxiliary_noun in subject.nouns:
            prompt, _ = replace_phrase(prompt, subject.identifier, noun, auxiliary_noun if to is None else to)
    return prompt


def parse_subjects(identifiers: str, class_nouns: str, auxiliary_nouns: str) -> tuple[DCISubject, ...]:
    """Subjects of comma-separated lists; one auxiliary noun may stand for all.

    Raises:
        InputError: where the lists differ in length, or a subject is wrong.
    """
    first, nouns, others = ([part.strip() for part in text.split(",")]
                            for text in (identifiers, class_nouns, auxiliary_nouns))
    others = others * len(first) if len(others) == 1 else others
    for name, parts in (("class_noun", nouns), ("auxiliary_noun", others)):
        require(len(parts) == len(first), name, f"{len(parts)} for {len(first)} identifiers",
                "as many as identifiers", "Separate them with commas, in the same order.")
    return tuple(DCISubject(identifier=identifier, class_noun=noun, auxiliary_noun=other)
                 for identifier, noun, other in zip(first, nouns, others, strict=True))


def plural(noun: str) -> str:
    """The English plural of a noun, by rule and a few exceptions: 'tortoise plushy' to 'tortoise plushies'."""
    start, _, last = noun.rstrip().rpartition(" ")
    word = last.casefold()
    if word in _IRREGULAR:
        last = _IRREGULAR[word]
    elif word.endswith(("s", "x", "z", "ch", "sh")):
        last += "es"
    elif word.endswith("y") and word[-2:-1] not in tuple("aeiou"):
        last = last[:-1] + "ies"
    else:
        last += "s"
    return f"{start} {last}" if start else last

"""Image-specific context optimisation: learned contexts in place of caption templates (Jin et al., ECCV 2024)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

from ..data.examples import Example, TrainingData
from ..errors import require
from ..learning.token_vectors import MOST, TokenVectorsConfig
from .base import Objective

ContextStart = Literal["words", "random"]
PREFIX_WORDS, SUFFIX_WORDS = "a photo of a", "."
LONGEST = 32
"""Vectors before or after the subject; beyond it little is left of the 75 tokens that a prompt has."""


@dataclass(frozen=True, kw_only=True)
class LearnedContexts(Objective):
    """ICO: photo i is captioned [p_i,1..p_i,n] [V_1..V_m] [noun] [s_i,1..s_i,k], all but the noun learned.

    p_i and s_i belong to one photo (not to its flips and repeats), V to all photos of a subject; only V and the noun
    are used afterwards. With n = k = m = 0 it is the manual prompt '{V} {noun}'.

    Attributes:
        prefix: n, learned vectors before the subject.
        suffix: k, learned vectors behind it.
        identifier_vectors: m, learned vectors of V; 0 leaves V to the identifier's own tokens (or to TokenVectors).
        start: "words" starts p, s and V from the words below; "random" from N(0, std²).
        std: deviation of a random start.
        rate_factor: the contexts' learning rate, in multiples of the run's.
        identifier_rate_factor: V's, likewise; the authors' is 1. None = the contexts' own, as all runs had it before
            this field.
        prefix_words: p's, of which the n next to the subject count (repeated where they are fewer). They must be words
            that the text encoder knows: what it reads as a name takes part of the subject along.
        suffix_words: s's, likewise from the subject on.
        identifier_words: V's, one rare word for each vector; empty = the identifier's own tokens.

    Source: Jin et al., ECCV 2024, 3.2, and the authors' code; starts without position embeddings are ours.
    """

    kind: ClassVar[str] = "learned_contexts"
    later_fields: ClassVar[tuple[str, ...]] = ("identifier_rate_factor", "prefix_words", "suffix_words",
                                               "identifier_words")
    prefix: int = 2
    suffix: int = 1
    identifier_vectors: int = 2
    start: ContextStart = "words"
    std: float = 0.02
    rate_factor: float = 10.0
    identifier_rate_factor: float | None = None
    prefix_words: str = PREFIX_WORDS
    suffix_words: str = SUFFIX_WORDS
    identifier_words: str = ""

    def __post_init__(self) -> None:
        for name in ("prefix", "suffix"):
            require(0 <= getattr(self, name) <= LONGEST, name, getattr(self, name), f"0 to {LONGEST} vectors",
                    "Use for example 2 and 1.")
        require(0 <= self.identifier_vectors <= MOST, "identifier_vectors", self.identifier_vectors, f"0 to {MOST}",
                "Use for example 2.")
        require(self.start in get_args(ContextStart), "start", repr(self.start), "words or random", "Use words.")
        require(self.std > 0, "std", self.std, "a number above 0", "Use 0.02.")
        require(self.rate_factor > 0, "rate_factor", self.rate_factor, "a number above 0", "Use 10.")
        own = self.identifier_rate_factor
        require(own is None or own > 0, "identifier_rate_factor", own, "a number above 0", "Use 1.")
        if own == self.rate_factor:  # what None means: one spelling, one key
            object.__setattr__(self, "identifier_rate_factor", None)
        self._check_words()

    def _check_words(self) -> None:
        for name, count in (("prefix_words", self.prefix), ("suffix_words", self.suffix)):
            is_read = self.start == "words" and count > 0
            require(not is_read or bool(getattr(self, name).strip()), name, "an empty text",
                    "words that the text encoder knows", "Write for example 'a', or choose the random start.")
        for name in ("prefix_words", "suffix_words", "identifier_words"):
            require("embedding:" not in getattr(self, name), name, repr(getattr(self, name)), "plain words",
                    "To go on from an embedding file set identifier_vectors to 0 and let token vectors start from it.")

    @property
    def start_words(self) -> tuple[str, ...]:
        """The words that contexts start from, each once."""
        if self.start != "words":
            return ()
        return tuple(dict.fromkeys([*_last(self.prefix_words, self.prefix), *_first(self.suffix_words, self.suffix)]))

    def prepare(self, data: TrainingData) -> TrainingData:
        """The data with its captions rewritten; the old ones are what the base network reads.

        Raises:
            InputError: where a photo has a caption of its own, which the contexts would replace; where several
                subjects would start from the same identifier words.
        """
        _check_captions(data)
        names = {name for example in data.examples for name, _ in example.subjects}
        require(not self.identifier_words.strip() or len(names) == 1, "identifier_words",
                f"one text for {len(names)} subjects, which would start as one", "one subject",
                "Leave it empty, and give each subject an identifier of several rare words.")
        examples = tuple(replace(example, caption=self.caption(example, _photo(example, number)))
                         for number, example in enumerate(data.examples))
        rewritten = {new.caption: old.caption for new, old in zip(examples, data.examples, strict=True)
                     if self.prefix or self.suffix}
        return replace(data, examples=examples, base_prompts={**data.base_prompts, **rewritten})

    def caption(self, example: Example, photo: int) -> str:
        """The caption of a photo, with a placeholder for each of its two contexts."""
        before, after = (name if count else "" for count, name in
                         ((self.prefix, _prefix(photo)), (self.suffix, _suffix(photo))))
        named = " and ".join(f"{identifier} {noun}" for identifier, noun in example.subjects)
        return " ".join(f"{before} {named} {after}".split())

    def token_vectors(self, data: TrainingData, learning_rate: float) -> tuple[TokenVectorsConfig, ...]:
        photos = dict.fromkeys(_photo(example, number) for number, example in enumerate(data.examples))
        identifiers = dict.fromkeys(name for example in data.examples for name, _ in example.subjects)
        contexts = [word for photo in photos for word in (
            (_prefix(photo), self.prefix, _last(self.prefix_words, self.prefix)),
            (_suffix(photo), self.suffix, _first(self.suffix_words, self.suffix)))]
        rate, own = self.rate_factor, self.identifier_rate_factor or self.rate_factor
        return (*(self._word(name, count, " ".join(words), rate * learning_rate, is_context=True)
                  for name, count, words in contexts if count),
                *(self._word(name, self.identifier_vectors, self.identifier_words.strip() or name,
                             own * learning_rate, is_context=False)
                  for name in identifiers if self.identifier_vectors))

    def _word(self, name: str, count: int, words: str, rate: float, *, is_context: bool) -> TokenVectorsConfig:
        return TokenVectorsConfig(word=name, count=count, start="word" if self.start == "words" else "random",
                                  start_text=words, std=self.std, learning_rate=rate, is_context=is_context)


def _check_captions(data: TrainingData) -> None:
    for example in data.examples:
        require(all(identifier.strip() for identifier, _ in example.subjects), "identifier", "an empty text",
                "the subject's identifier", "Give each subject an identifier.")
    own = sum(example.has_own_caption for example in data.examples)
    require(not own, "objective", f"learned contexts, and {own} photos with captions of their own",
            "one caption template", "Remove the photos' own captions: learned contexts take their place.")


def _photo(example: Example, number: int) -> int:
    return number if example.photo is None else example.photo


def _prefix(photo: int) -> str:
    return f"learnedprefix{photo}"


def _suffix(photo: int) -> str:
    return f"learnedsuffix{photo}"


def _last(words: str, count: int) -> list[str]:
    """The words that stand next to a subject behind them, as many as there are vectors."""
    return words.split()[-count:] if count else []


def _first(words: str, count: int) -> list[str]:
    """The words that stand next to a subject before them, as many as there are vectors."""
    return words.split()[:count]

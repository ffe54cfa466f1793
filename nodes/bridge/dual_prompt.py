"""A prompt and its auxiliary prompt in one CONDITIONING, with the tokens that DCI's masks are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...core.dci.dbim import BranchTokens
from ...core.dci.nouns import auxiliary_noun_warning, check_auxiliary_noun, fold
from ...core.dci.phrases import (
    PromptTokens,
    Token,
    content_tokens,
    find_phrase,
    replace_phrase,
    replaced_starts,
)
from ...core.errors import InputError, require

CONDITIONING_KEY = "personalize_dci"
"""Where a CONDITIONING carries its `DualPrompt`; sampling without DCI does not look there."""


@dataclass(frozen=True, eq=False)
class DualPrompt:
    """What one CONDITIONING entry carries for its auxiliary branch.

    Attributes:
        concept_context: the entry's own context (1, T, D), kept to notice nodes that change it afterwards.
        auxiliary_context: (1, T', D), the auxiliary prompt as the same text encoder sees it.
        auxiliary_pooled: (1, P), or None where the text encoder pools nothing.
        concept: tokens of the prompt; 'V noun' is counted.
        auxiliary: tokens of the auxiliary prompt; all but the auxiliary noun are counted.
    """

    concept_context: Tensor
    auxiliary_context: Tensor
    auxiliary_pooled: Tensor | None
    concept: BranchTokens
    auxiliary: BranchTokens


@dataclass(frozen=True, kw_only=True)
class SubjectPrompt:
    """A prompt about a subject, and the noun that stands in for the subject in the auxiliary branch."""

    prompt: str
    identifier: str
    class_noun: str
    auxiliary_noun: str

    def __post_init__(self) -> None:
        require(bool(self.identifier.strip()), "identifier", "an empty text", "the subject's identifier",
                "Type the identifier the model was trained with.")
        check_auxiliary_noun(self.class_noun, self.auxiliary_noun)
        words = fold(self.auxiliary_noun).split()
        require(not set(fold(self.identifier).split()) & set(words), "auxiliary_noun",
                repr(self.auxiliary_noun), f"a noun without the identifier {self.identifier!r}",
                "Name another kind of thing in plain words.")

    @property
    def phrase(self) -> str:
        """'V noun', the subject in the prompt."""
        return " ".join((self.identifier + " " + self.class_noun).split())

    @property
    def auxiliary_prompt(self) -> str:
        """The prompt with 'V noun' replaced by the auxiliary noun."""
        return replace_phrase(self.prompt, self.identifier, self.class_noun, self.auxiliary_noun)[0]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed but weakens DCI, for the UI."""
        found = [auxiliary_noun_warning(self.class_noun, self.auxiliary_noun)]
        if not self.class_noun.strip():
            found.append("The class noun is empty: only the identifier marks the subject.")
        if fold(self.auxiliary_prompt) == fold(self.auxiliary_noun):
            found.append("The prompt holds nothing but the subject: the auxiliary branch has nothing to add.")
        return tuple(text for text in found if text)


def locate_branches(clip: Any, subject: SubjectPrompt) -> tuple[BranchTokens, BranchTokens]:
    """Token columns of both branches, found without loading the text encoder.

    Raises:
        InputError: without a text encoder, or where 'V noun' is not in the prompt; it shows the tokens.
    """
    require(clip is not None, "clip", "nothing", "a text encoder",
            "The checkpoint has none: connect a CLIP loader.")
    tokens = prompt_tokens(clip, subject.prompt)
    phrase = prompt_tokens(clip, subject.phrase).tokens
    starts = find_phrase(tokens.tokens, phrase)
    auxiliary = prompt_tokens(clip, subject.auxiliary_prompt)
    noun = prompt_tokens(clip, subject.auxiliary_noun).tokens
    auxiliary_starts = replaced_starts(starts, len(phrase), len(noun))
    replaced = [find_phrase(auxiliary.tokens[start : start + len(noun)], noun) for start in auxiliary_starts]
    if not starts or not all(replaced) or find_phrase(auxiliary.tokens, phrase):
        raise InputError("prompt", f"the tokens {show_tokens(clip, tokens.tokens)}",
                         f"{subject.phrase!r} in it, as the tokens {show_tokens(clip, phrase)}",
                         "Write identifier and class noun side by side, as the model was trained with them.")
    subject_columns = tokens.columns_of(starts, len(phrase))
    noun_columns = set(auxiliary.columns_of(auxiliary_starts, len(noun)))
    others = tuple(column for column in auxiliary.columns if column not in noun_columns)
    return (BranchTokens(tokens.length, tokens.columns, subject_columns),
            BranchTokens(auxiliary.length, auxiliary.columns, others))


def encode_dual_prompt(clip: Any, subject: SubjectPrompt) -> list[list[Any]]:
    """The CONDITIONING of the prompt as stock CLIPTextEncode gives it, every entry with its `DualPrompt`."""
    concept, auxiliary = locate_branches(clip, subject)
    entries = clip.encode_from_tokens_scheduled(clip.tokenize(subject.prompt))
    others = clip.encode_from_tokens_scheduled(clip.tokenize(subject.auxiliary_prompt))
    conditioning = []
    for (context, extra), (other, other_extra) in zip(entries, others, strict=True):
        dual = DualPrompt(context, other, other_extra.get("pooled_output"), concept, auxiliary)
        conditioning.append([context, {**extra, CONDITIONING_KEY: dual}])
    return conditioning


def prompt_tokens(clip: Any, text: str) -> PromptTokens:
    """The words of a text as the text encoder(s) see them.

    Raises:
        InputError: where several text encoders put the words at different columns.
    """
    empty = clip.tokenize("")
    found = []
    for encoder, chunks in clip.tokenize(text).items():
        begin, end = (entry[0] for entry in empty[encoder][0][:2])
        found.append(content_tokens([[entry[0] for entry in chunk] for chunk in chunks], begin, end))
    first = found[0]
    agree = all((other.columns, other.length) == (first.columns, first.length) for other in found[1:])
    require(agree, "prompt", f"{len(first.columns)} and {len(found[-1].columns)} tokens",
            "the same tokens in all text encoders",
            "Leave out embeddings that have another number of vectors in each text encoder.")
    return first


def show_tokens(clip: Any, tokens: Sequence[Token]) -> str:
    """Tokens as a person reads them: a | photo | of."""
    def word(token: Token) -> str:
        if isinstance(token, Tensor):
            return "<embedding>"
        return str(clip.tokenizer.untokenize([(token, 1.0)])[0][1]).removesuffix("</w>")

    return " | ".join(map(word, tokens)) or "(none)"

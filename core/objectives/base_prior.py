"""Prior preservation without class images: on a prompt of the class the network stays what it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from torch import Generator, Tensor

from ..data.batch import Rows, SubjectRows
from ..data.noise import NoiseSource
from ..errors import require
from ..subject.subject import CLASS_TEMPLATE, fill, without_identifiers
from .base import Objective, Outcome

if TYPE_CHECKING:
    from ..data.examples import Example, TrainingData

PriorPrompt = Literal["class", "caption"]


@dataclass(frozen=True, kw_only=True)
class BasePrior(Objective):
    """λ E ‖eps_base(z_t, t, c_pr) - eps_theta(z_t, t, c_pr)‖²: beside every subject row the same latents, noise and
    timestep under a prompt of the class, whose target is the base prediction (see `Outcome`).

    Deviation from DreamBooth's eq. 2: the pictures are the subject's own, so it says nothing of how other instances of
    the class look, but that these are not to change. It costs two rows more per photo, one of them without gradients.

    Attributes:
        weight: λ.
        prompt: c_pr: "class" is 'a {noun}', one noun of the photo in turn; "caption" is the photo's whole caption with
            class nouns in place of identifiers, known as differential output preservation (ai-toolkit's name). Where
            every caption is 'a {V} {noun}' the two are one.
    """

    kind: ClassVar[str] = "base_prior"
    later_fields: ClassVar[tuple[str, ...]] = ("prompt",)
    weight: float = 1.0
    prompt: PriorPrompt = "class"

    def __post_init__(self) -> None:
        require(self.weight > 0, "prior weight", self.weight, "a number above 0", "Use 1, or disconnect the prior.")
        require(self.prompt in get_args(PriorPrompt), "prior prompt", repr(self.prompt), "class or caption",
                "Use class.")

    def prepare(self, data: TrainingData) -> TrainingData:
        """The data with a class prompt for every noun (a pool of class images keeps its own), or with the captions of
        other instances.

        Raises:
            InputError: a caption stays the subject's own.
        """
        if self.prompt == "caption":
            return replace(data, examples=tuple(map(_with_noun_caption, data.examples)))
        prompts = {noun: fill(CLASS_TEMPLATE, "", noun) for noun in data.nouns}
        return replace(data, class_prompts={**prompts, **data.class_prompts})

    def extra_rows(self, subject_rows: SubjectRows, data: TrainingData, source: NoiseSource,
                   generator: Generator) -> Rows:
        if self.prompt == "caption":
            return taught_by_base(subject_rows, [data.examples[number].noun_caption
                                                 for number in subject_rows.examples])
        return taught_by_base(subject_rows, [data.class_prompts[noun] for noun in subject_rows.class_nouns])

    def term(self, outcome: Outcome[Rows]) -> Tensor:
        return self.weight * outcome.error.mean()


def taught_by_base(rows: Rows, prompts: Sequence[str]) -> Rows:
    """The same noisy latents under other prompts, with the base prediction as their target."""
    return Rows(latents=rows.latents, noise=rows.noise, index=rows.index, prompts=tuple(prompts), concat=rows.concat,
                references=rows.references, is_taught_by_base=True)


def _with_noun_caption(example: Example) -> Example:
    require(all(identifier.strip() and noun.strip() for identifier, noun in example.subjects), "class_noun",
            "an empty identifier or class noun", "both, for every subject", "Type them where the photos are.")
    caption = without_identifiers(example.caption, example.subjects)
    require(caption != example.caption, "captions", f"{example.caption!r} without its identifier",
            "the identifier in every caption", "Write {V} where it belongs, or keep the class prompt.")
    return replace(example, noun_caption=caption)

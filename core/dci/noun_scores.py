"""Which noun stands best in the subject's place? Scores by text alone, or by the frozen model's own evidence.

Source: Jin et al., ECCV 2024, 4.5 (nouns with a high probability of occurrence in the context, fig. 12). The paper
picks by hand; the scores are ours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from ..errors import require
from ..store.files import canonical_json
from ..subject.subject import CLASS_TEMPLATE, fill

ANYTHING = "object"
"""The noun that says least; shifts are measured from it."""


@dataclass(frozen=True, kw_only=True)
class ScoredNoun:
    """A candidate.

    Attributes:
        score: more is better; comparable within one list only.
        terms: what the score is made of, by name, for the report.
    """

    noun: str
    score: float
    terms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class EvidenceRecipe:
    """Everything that the evidence for one noun depends on beside the pictures' own recipe.

    Attributes:
        pictures: key of the pictures' recipe (model, text encoder, prompt, sampler, size, seed).
        count: number of pictures.
        prompt: the context's prompt with the noun in it.
        plain_prompt: the noun without the context.
        levels: fractions of the noise schedule at which errors are measured, 0 is pure noise.
        seed: of the noise that is added to measure.
    """

    pictures: str
    count: int
    prompt: str
    plain_prompt: str
    levels: tuple[float, ...]
    seed: int

    def __post_init__(self) -> None:
        require(self.count >= 1, "pictures", self.count, "1 or more pictures per noun", "Use for example 2.")
        require(all(0 < level < 1 for level in self.levels) and bool(self.levels), "levels", self.levels,
                "fractions between 0 and 1", "Use for example 0.1, 0.3 and 0.5.")

    @property
    def key(self) -> str:
        """Digest that names the file of this evidence."""
        settings: dict[str, Any] = asdict(self)
        return hashlib.blake2b(canonical_json(settings).encode(), digest_size=20).hexdigest()


def noise_error(denoised: Tensor, latents: Tensor, sigma: float) -> Tensor:
    """‖(x0 - D(x)) / sigma‖², mean over elements: the squared error of the noise that D implies, (B,).

    With x = x0 + sigma eps the implied noise is (x - D) / sigma; for flow models, x = (1 - sigma) x0 + sigma eps and
    D = x - sigma v, the same expression is the squared error of the velocity.

    Args:
        denoised: D(x), (B, C, h, w).
        latents: x0, the same shape.
        sigma: above 0.
    """
    return ((latents - denoised) / sigma).float().square().flatten(1).mean(1)


def context_gain(without: Tensor, with_context: Tensor) -> Tensor:
    """1 - e(context) / e(no context), mean over levels: how much of the error the context explains, (B,).

    A model that ignores the context beside this noun draws pictures that the context does not explain: gain 0.

    Args:
        without: errors under 'a {noun}', (B, L) for L noise levels.
        with_context: errors under the context's prompt with the noun, on the same pictures and noise.
    """
    return (1 - with_context / without.clamp_min(torch.finfo(without.dtype).tiny)).mean(1)


def rank_by_text(nouns: Sequence[str], class_noun: str, fill_in: Callable[[str], str],
                 embed: Callable[[str], Tensor]) -> tuple[ScoredNoun, ...]:
    """score = fit - likeness, best first; all in shifts d(x) = e(x) - e('a object').

    fit = cos(d('a noun'), d(context)), where the context is the prompt about an object: does the noun lead where the
    prompt leads? likeness = cos(d('a noun'), d('a class noun')): a noun like the class' carries the lost editability.

    Args:
        nouns: the candidates.
        fill_in: noun -> the prompt with the noun in the subject's place.
        embed: text -> (D,), the text encoder's pooled output.
    """
    origin = embed(fill(CLASS_TEMPLATE, "", ANYTHING)).float()
    texts = [fill_in(ANYTHING), *(fill(CLASS_TEMPLATE, "", noun) for noun in (class_noun, *nouns))]
    context, subject, *shifts = [embed(text).float() - origin for text in texts]
    scored = []
    for noun, shift in zip(nouns, shifts, strict=True):
        fit = float(cosine_similarity(shift, context, dim=0))
        likeness = float(cosine_similarity(shift, subject, dim=0)) if class_noun.strip() else 0.0
        scored.append(ScoredNoun(noun=noun, score=fit - likeness, terms={"fit": fit, "likeness": likeness}))
    return best_first(scored)


def best_first(scored: Sequence[ScoredNoun]) -> tuple[ScoredNoun, ...]:
    """By score, ties by the order in which they came."""
    return tuple(sorted(scored, key=lambda candidate: -candidate.score))


def report(scored: Sequence[ScoredNoun], heading: str, legend: str) -> str:
    """A table, best first, and under it what the columns are."""
    names = list(scored[0].terms)
    header = f"{'rank':>4}  {'noun':<14} {'score':>8} " + " ".join(f"{name:>10}" for name in names)
    rows = [f"{place:>4}  {each.noun:<14} {each.score:>8.4f} "
            + " ".join(f"{each.terms[name]:>10.4f}" for name in names) for place, each in enumerate(scored, start=1)]
    return "\n".join([heading, header.rstrip(), *(row.rstrip() for row in rows), "", legend])

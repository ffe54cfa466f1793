"""Class-characterizing regularisation: the identifier keeps the meaning of its class (Lu, Xie, Guo 2024, eq. 3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from ..data.examples import TrainingData
from ..errors import require
from ..learning.token_vectors import TokenVectorsConfig
from ..model.image_text import ImageTextEncoder
from .base import Objective, TextView


@dataclass(frozen=True, kw_only=True)
class ClassCharacterizing(Objective):
    """With probability p_cl: L_CL = 1 - α_cl cos(T(c_p), T(c_c)), with c_p = '{V} {noun}' and c_c = '{noun}'.

    It reaches the identifier's vectors, and adapters inside the encoder's text side. T(c_c) is a goal without a
    gradient, and several subjects count by their mean (both ours).

    Attributes:
        weight: α_cl; 0 changes no gradient.
        probability: p_cl, of a step to have the term.

    Source: Lu, Xie, Guo 2024, eq. 3.
    """

    kind: ClassVar[str] = "class_characterizing"
    needs_image_text: ClassVar[bool] = True
    weight: float = 1.0
    probability: float = 1.0

    def __post_init__(self) -> None:
        require(self.weight >= 0, "alpha", self.weight, "0 or more", "Use 1, as in the paper.")
        require(0 <= self.probability <= 1, "probability", self.probability, "0 to 1", "Use 1, as in the paper.")

    def check(self, data: TrainingData) -> None:
        for example in data.examples:
            require(all(noun.strip() for _, noun in example.subjects), "class_noun", "an empty text",
                    "what the subject is", "Write the class noun, or remove class-characterizing regularisation.")

    def check_learning(self, data: TrainingData, token_vectors: Sequence[TokenVectorsConfig],
                       is_text_side_trained: bool) -> None:
        """The term has no gradient where neither identifiers nor text side learn."""
        learned = {word.word for word in token_vectors}
        reached = is_text_side_trained or any(
            identifier in learned for example in data.examples for identifier, _ in example.subjects)
        require(reached, "objective", "class-characterizing regularisation with a frozen identifier and text encoder",
                "an identifier that learns", "Let token vectors or the text encoder learn.")

    def text_term(self, text: TextView, data: TrainingData, generator: Generator) -> Tensor:
        if float(torch.rand((), generator=generator)) >= self.probability:
            return torch.zeros((), device=text.encoder.text_projection.device)
        subjects = dict.fromkeys(subject for example in data.examples for subject in example.subjects)
        cosines = [_cosine(text, text.encoder, *subject) for subject in subjects]
        return 1 - self.weight * torch.stack(cosines).mean()


def _cosine(text: TextView, encoder: ImageTextEncoder, identifier: str, class_noun: str) -> Tensor:
    """cos(T('{V} {noun}'), T('{noun}')), with a graph to V's vectors where it has some."""
    noun, vectors = encoder.tokenize(class_noun), vectors_for(encoder, text.vectors.get(identifier, {}).values())
    word = list(encoder.tokenize(identifier)) if vectors is None else list(vectors)
    with torch.no_grad():
        goal = encoder.embed_tokens([noun])[0]
    return encoder.embed_tokens([[*word, *noun]])[0] @ goal


def vectors_for(encoder: ImageTextEncoder, vectors: Iterable[Tensor]) -> Tensor | None:
    """Among a word's vectors (m, D) of several text encoders, those of the encoder's text side; None without any."""
    return next((found for found in vectors if found.shape[-1] == encoder.token_width), None)

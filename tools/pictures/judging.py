"""What does the second world's judge say of pictures: whose are they, where, and what is in them?"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...pocket.config import SIZE
from ...pocket.judge import JUDGE_FILE, Judge, read
from ...pocket.judge import load_judge as published_judge
from ...pocket.learner import load_average
from ...pocket.places import CONTEXTS
from ...pocket.state import load_state
from .subjects import FIRST_OTHER, OTHERS, photos_of, small


def load_judge(path: Path | None = None) -> Judge:
    """The frozen judge: from its file, or from training's state.

    Raises:
        SystemExit: there is none.
    """
    path = path or JUDGE_FILE
    if not path.is_file():
        raise SystemExit(f"judge: got no file {path}, expected training's state or an exported judge; say --judge FILE")
    if path.suffix == ".safetensors":
        return published_judge(path)
    if "judge" not in (state := load_state(path)):
        raise SystemExit(f"judge: got a state without a judge, {path}; train it: --stage judge")
    judge: Judge = load_average(Judge(), state["judge"])  # type: ignore[assignment]
    return judge


def pixels(pictures: list[Image.Image]) -> Tensor:
    """(N, 3, 96, 96) in [0, 1]; a picture of another size is made that size."""
    scaled = [np.asarray(picture.convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS)) for picture in pictures]
    return torch.from_numpy(np.stack(scaled)).permute(0, 3, 1, 2).float() / 255


@dataclass(frozen=True)
class Panel:
    """A judge, and the 47 strangers that every subject stands among."""

    judge: Any
    strangers: Tensor
    """Their mean unit vectors, (47, 64)."""
    kin: dict[str, Tensor] = field(default_factory=dict)
    """The same of 47 subjects of one noun, by noun; made when asked for."""

    @classmethod
    def of(cls, judge: Any, others: int = OTHERS) -> Panel:
        """With the held-out subjects from `FIRST_OTHER` on."""
        return cls(judge, gallery(judge, others))

    def retrieved(self, pictures: Tensor, own: Tensor) -> float:
        """Share of pictures that are more like `own` than like any stranger."""
        return self._nearest(pictures, own, self.strangers)

    def told_apart(self, pictures: Tensor, own: Tensor, noun: str) -> float:
        """The same among 47 strangers of the subject's own noun, where the noun alone is of no help."""
        if noun not in self.kin:
            self.kin[noun] = gallery(self.judge, OTHERS, noun)
        return self._nearest(pictures, own, self.kin[noun])

    def _nearest(self, pictures: Tensor, own: Tensor, strangers: Tensor) -> float:
        vectors = self.judge(pictures)["identity"].float()
        return float((vectors @ own > (vectors @ strangers.T).amax(-1)).float().mean())

    def fidelity(self, pictures: Tensor, own: Tensor) -> float:
        """Mean cosine to the photos."""
        return float((self.judge(pictures)["identity"].float() @ own).mean())

    def alignment(self, pictures: Tensor, place: str) -> float:
        """Mean probability of the place."""
        return float(self.judge(pictures)["context"].float().softmax(-1)[:, CONTEXTS.index(place)].mean())

    def obeyed(self, pictures: Tensor, place: str) -> float:
        """Share of pictures whose place is the one."""
        return float((self.judge(pictures)["context"].argmax(-1) == CONTEXTS.index(place)).float().mean())

    def holds(self, pictures: Tensor, nouns: tuple[str, ...]) -> float:
        """Share of pictures in which all of these things are."""
        answers = self.judge(pictures)
        return float(np.mean([set(nouns) <= set(read(answers, row)["nouns"]) for row in range(len(pictures))]))


def gallery(judge: Any, others: int, noun: str | None = None) -> Tensor:
    """References of so many held-out subjects from `FIRST_OTHER` on, of one noun where it is given, (others, 64)."""
    numbers = range(FIRST_OTHER, FIRST_OTHER + others)
    return torch.stack([reference(judge, number, noun) for number in numbers])


def reference(judge: Any, number: int, noun: str | None = None) -> Tensor:
    """The unit mean of what the judge says of a subject's photos, (64,)."""
    pictures = torch.from_numpy(small(photos_of(number, noun=noun))).permute(0, 3, 1, 2).float() / 255
    mean = judge(pictures)["identity"].float().mean(0)
    return mean / mean.norm()

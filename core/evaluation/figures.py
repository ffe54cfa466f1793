"""Pictures to figures: whatever the encoders that are there can say, each with one value per prompt (METHODS 5)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from ..model.image_text import ImageTextEncoder
from .metrics import (
    Estimate,
    ImageEncoder,
    PictureDistance,
    coarse_distance,
    cosine_distance,
    diversity,
    embed_each,
    estimate,
    has_torchmetrics,
    mean_cosines,
    vector_distance,
)
from .prompts import EvaluationPrompt

Unit = Literal["prompts", "class pictures", "all pictures"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Made:
    """What was drawn, values in 0..1.

    Attributes:
        prompted: (P, S, 3, H, W), S pictures of each of P prompts.
        classes: (C, 3, H, W), pictures of 'a {noun}'; C may be 0.
        before: the same by the reference model, at the same noise; None where there is no such model.
    """

    prompted: Tensor
    classes: Tensor
    before: Tensor | None = None

    @property
    def all_prompted(self) -> Tensor:
        """(P * S, 3, H, W), prompt by prompt."""
        return self.prompted.flatten(0, 1)


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """The networks that measure pictures; any of them may be absent."""

    image_text: ImageTextEncoder | None = None
    dino: ImageEncoder | None = None
    lpips: PictureDistance | None = None

    @property
    def encoders(self) -> dict[str, ImageEncoder]:
        """The encoders of pictures that are there, by name."""
        given: dict[str, ImageEncoder | None] = {"clip": self.image_text, "dino": self.dino}
        return {name: encoder for name, encoder in given.items() if encoder is not None}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure.

    Attributes:
        name: as in the trainer's Validation, e.g. "clip_i".
        title: for people.
        meaning: what is measured.
        more_is_better: which way is good.
        values: one per unit.
        unit: what a value belongs to.
    """

    name: str
    title: str
    meaning: str
    more_is_better: bool
    values: tuple[float, ...]
    unit: Unit = "prompts"

    @property
    def estimate(self) -> Estimate:
        """The mean, with a bootstrap interval over the units."""
        return estimate(self.values)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """All figures, and why others are absent.

    Attributes:
        present: by name, in order of reading.
        absent: title to what has to be given for it.
    """

    present: dict[str, Figure] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def first(self, *names: str) -> Figure | None:
        """The first of these figures that is there."""
        return next((self.present[name] for name in names if name in self.present), None)

    @property
    def fidelity(self) -> Figure | None:
        """What says most about the subject."""
        return self.first("dino", "clip_i")

    @property
    def alignment(self) -> Figure | None:
        """What says most about the prompt."""
        return self.first("clip_t")


def find_figures(made: Made, photos: Sequence[Tensor], prompts: Sequence[EvaluationPrompt],
                 metrics: Metrics) -> Figures:
    """Everything that the metrics can say of the pictures.

    Args:
        photos: the subject's, (H, W, 3) in 0..1, of any sizes.
        prompts: the P prompts of `made.prompted`, in its order.
    """
    vectors = {name: embed_each(encoder, made.all_prompted) for name, encoder in metrics.encoders.items()}
    references = {name: embed_each(encoder, photos) for name, encoder in metrics.encoders.items()}
    found = [*_fidelity(vectors, references, len(prompts)), *_alignment(vectors, metrics, prompts),
             *_set_distances(vectors, references), *_diversities(made, vectors, metrics),
             *_drifts(made, references, metrics)]
    return Figures(present={figure.name: figure for figure in found},
                   absent=_absent({figure.name for figure in found}, made, len(photos), metrics))


def _per_prompt(values: Tensor, count: int) -> tuple[float, ...]:
    """(P * S,) to the P means over the pictures of each prompt."""
    return tuple(values.reshape(count, -1).mean(1).tolist())


def _fidelity(vectors: dict[str, Tensor], references: dict[str, Tensor], count: int) -> list[Figure]:
    titles = {"clip": ("clip_i", "CLIP-I", "CLIP"), "dino": ("dino", "DINO", "DINO")}
    return [Figure(name=titles[name][0], title=titles[name][1], more_is_better=True,
                   meaning=f"pictures against photos, cosine by {titles[name][2]}",
                   values=_per_prompt(mean_cosines(rows, references[name]), count)) for name, rows in vectors.items()]


def _alignment(vectors: dict[str, Tensor], metrics: Metrics, prompts: Sequence[EvaluationPrompt]) -> list[Figure]:
    if metrics.image_text is None:
        return []
    with torch.no_grad():
        texts = metrics.image_text.embed_texts([prompt.class_text for prompt in prompts]).cpu()
    rows = vectors["clip"].reshape(len(prompts), -1, vectors["clip"].shape[-1])
    cosines = (rows * texts[:, None]).sum(-1)
    return [Figure(name="clip_t", title="CLIP-T", meaning="pictures against prompts without the identifier, cosine by "
                   "CLIP", more_is_better=True, values=tuple(cosines.mean(1).tolist()))]


def _set_distances(vectors: dict[str, Tensor], references: dict[str, Tensor]) -> list[Figure]:
    fewest = min((len(rows) for rows in (*vectors.values(), *references.values())), default=0)
    if not has_torchmetrics() or fewest < 2:
        return []
    found = {name: vector_distance(rows, references[name]) for name, rows in vectors.items()}
    return [Figure(name=f"kid_{name}", title=f"KID over {name.upper()}", more_is_better=False, unit="all pictures",
                   values=(distance.mean,), meaning=f"distance of the two sets, subsets of {distance.subset_size}, "
                   f"spread {distance.spread:.3f}") for name, distance in found.items()]


def _diversities(made: Made, vectors: dict[str, Tensor], metrics: Metrics) -> list[Figure]:
    count, seeds = made.prompted.shape[:2]
    if seeds < 2:
        return []
    values: dict[str, list[float]] = {}
    if metrics.lpips is not None:
        values["LPIPS"] = [diversity(metrics.lpips, rows) for rows in made.prompted]
    for name, rows in vectors.items():
        values[name.upper()] = [diversity(cosine_distance, own) for own in rows.reshape(count, seeds, -1)]
    values["pixels"] = [diversity(coarse_distance, rows) for rows in made.prompted]
    return [Figure(name=f"diversity_{name.lower()}", title=f"diversity, {name}", more_is_better=True,
                   meaning="mean distance of two pictures of a prompt", values=tuple(own))
            for name, own in values.items()]


def _drifts(made: Made, references: dict[str, Tensor], metrics: Metrics) -> list[Figure]:
    """'a {noun}' against the photos, above the reference model's; without that model, against the photos alone."""
    if not len(made.classes):
        return []
    found = []
    for name, encoder in metrics.encoders.items():
        after = mean_cosines(embed_each(encoder, made.classes), references[name])
        if made.before is None:
            found.append(Figure(name=f"class_likeness_{name}", title=f"'a noun' like the photos, {name.upper()}",
                                meaning="cosine of 'a {noun}' with the photos (DreamBooth's PRES)",
                                more_is_better=False, unit="class pictures", values=tuple(after.tolist())))
            continue
        gained = after - mean_cosines(embed_each(encoder, made.before), references[name])
        found.append(Figure(name=f"drift_{name}", title=f"drift, {name.upper()}", more_is_better=False,
                            meaning="how much nearer 'a {noun}' came to the photos; 0 is none",
                            unit="class pictures", values=tuple(gained.tolist())))
    if made.before is not None:
        found.append(Figure(name="class_change", title="change of 'a noun', pixels", more_is_better=False,
                            meaning="mean difference of 'a {noun}' from the reference's, same noise; 0 is none",
                            unit="class pictures", values=tuple(coarse_distance(made.classes, made.before).tolist())))
    return found


def _absent(present: set[str], made: Made, photos: int, metrics: Metrics) -> dict[str, str]:
    """What has to be given for the figures that are not there."""
    wanted = {
        "CLIP-I, CLIP-T": ("clip_i" in present, "needs an image-text encoder"),
        "DINO": ("dino" in present, "give the folder of a DINO as dino_path"),
        "KID": (any(name.startswith("kid") for name in present), _needed_for_kid(made, photos, metrics)),
        "diversity": ("diversity_pixels" in present, "set seeds to 2 or more"),
        "diversity by LPIPS": ("diversity_lpips" in present or made.prompted.shape[1] < 2,
                               "give the weights of AlexNet, VGG16 or SqueezeNet as lpips_path"),
        "drift": (made.before is not None, "connect reference_model and reference_clip, as they were before training"),
    }
    return {title: what for title, (there, what) in wanted.items() if not there}


def _needed_for_kid(made: Made, photos: int, metrics: Metrics) -> str:
    if not has_torchmetrics():
        return "install torchmetrics in ComfyUI's Python (pip install torchmetrics), and give an encoder"
    if metrics.encoders:
        return f"{photos} photos and {math.prod(made.prompted.shape[:2])} pictures are too few: 2 of each or more"
    return "needs an image-text encoder, or dino_path"

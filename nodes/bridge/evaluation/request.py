"""From Evaluate Personalization's inputs to figures, chart and sheet; all is checked before a picture is sampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from ....core.errors import require
from ....core.evaluation.chart import plot_chart
from ....core.evaluation.figures import Metrics, find_figures
from ....core.evaluation.metrics import load_image_encoder, load_lpips
from ....core.evaluation.prompts import EvaluationPrompt, read_prompts
from ....core.evaluation.report import Evaluation, disagreements, from_json, table, to_json
from ....core.evaluation.sheet import render_sheet
from ....core.subject.subject import Subject
from ....core.wording import clean_prompt
from ..photos.latents import square_pixels
from .run import Pipeline, SamplingSettings, make_pipeline, one_subject, reference_pipeline, sample_pictures

ENCODED = ("label", "identifier", "auxiliary_noun", "negative_prompt")
"""Inputs that a text encoder or a person sees, beside the prompts."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluationRequest:
    """What is to be sampled and measured.

    Attributes:
        identifier: how the prompts write the subject.
        reference: the model before training, or None.
        other: an evaluation to compare with, or None.
        encoders: their names, for the record: figures of other encoders are not comparable.
    """

    label: str
    subject: Subject
    identifier: str
    prompts: tuple[EvaluationPrompt, ...]
    pipeline: Pipeline
    reference: Pipeline | None
    vae: Any
    settings: SamplingSettings
    metrics: Metrics
    encoders: str
    other: Evaluation | None


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluationResults:
    """The node's outputs.

    Attributes:
        record: JSON.
        pictures: (P * S, H, W, 3), prompt by prompt.
        summary: one line for the node itself.
    """

    table: str
    record: str
    chart: Tensor
    sheet: Tensor
    pictures: Tensor
    summary: str
    warnings: tuple[str, ...]


def make_request(prompts: Sequence[str], inputs: Mapping[str, Sequence[Any]]) -> EvaluationRequest:
    """The request that the node's inputs make; each comes as a list, because prompts may be one.

    Raises:
        InputError: two values for one input; words, prompts, paths or sockets that do not fit.
    """
    for name, values in inputs.items():
        require(len(values or ()) <= 1, name, f"a list of {len(values or ())}", "one value",
                "Only prompts may be a list; use a node for each of the others.")
    given: dict[str, Any] = {name: values[0] if values else None for name, values in inputs.items()}
    given |= {name: clean_prompt(given.get(name) or "", name) for name in ENCODED}
    texts = {name: value.strip() for name, value in given.items() if isinstance(value, str)}
    prompts = [clean_prompt(text, "prompts") for text in prompts]
    subject, identifier = one_subject(given["subject"], texts.get("identifier", ""))
    asked = read_prompts(prompts, identifier, subject.class_noun)
    settings = SamplingSettings(**{field.name: given[field.name] for field in fields(SamplingSettings)})
    other = from_json(texts["compare"]) if "compare" in texts else None
    reference = reference_pipeline(given.get("reference_model"), given.get("reference_clip"))
    auxiliary_noun = texts.get("auxiliary_noun", "")
    pipeline = make_pipeline(given["model"], given["clip"], identifier, subject.class_noun, auxiliary_noun)
    metrics, encoders = _load_metrics(given.get("image_text"), texts.get("dino_path", ""), texts.get("lpips_path", ""))
    return EvaluationRequest(
        label=texts.get("label") or "this model", subject=subject, identifier=identifier, prompts=asked,
        pipeline=pipeline, reference=reference, vae=given["vae"], settings=settings, metrics=metrics,
        encoders=encoders, other=other)


def _load_metrics(image_text: Any, dino_path: str, lpips_path: str) -> tuple[Metrics, str]:
    """The encoders that are connected or named, and their names.

    Raises:
        InputError: a path that leads nowhere, or a missing package.
    """
    dino = load_image_encoder(dino_path) if dino_path else None
    lpips = load_lpips(lpips_path) if lpips_path else None
    names = [] if image_text is None else [f"CLIP of {image_text.text_projection.shape[0]} dimensions"]
    names += [f"DINO {dino_path.rstrip('/').rpartition('/')[2]}"] if dino else []
    return Metrics(image_text=image_text, dino=dino, lpips=lpips), " and ".join(names) or "none"


def evaluate(request: EvaluationRequest) -> EvaluationResults:
    """Sample, measure, report.

    Raises:
        InterruptProcessingException: a BaseException, when the user pressed cancel.
    """
    subject, prompts, settings = request.subject, request.prompts, request.settings
    made = sample_pictures(request.pipeline, request.reference, request.vae, prompts, subject.class_noun, settings)
    figures = find_figures(made, [photo.pixels for photo in subject.photos], prompts, request.metrics)
    found = Evaluation(label=request.label, identifier=request.identifier, class_noun=subject.class_noun,
                       prompts=prompts, figures=figures, settings={**settings.shown, "encoders": request.encoders})
    photos = [square_pixels(photo.pixels, settings.size).cpu() for photo in subject.photos]
    other = request.other
    return EvaluationResults(
        table=table(found, other), record=to_json(found), chart=plot_chart(found, other),
        sheet=render_sheet(found.label, photos, made, prompts, subject.class_caption),
        pictures=made.all_prompted.movedim(1, -1),
        summary=f"{len(made.all_prompted)} pictures of {len(prompts)} prompts",
        warnings=tuple(f"not comparable with {other.label}: {what}" for what in disagreements(found, other))
        if other else ())

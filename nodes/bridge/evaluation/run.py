"""Pictures for an evaluation, by ComfyUI's own samplers: each is bit by bit what KSampler makes of one empty latent.

Picture number j of a prompt has the seed `seed + j`, whatever the model, the prompt and the number of pictures: two
models are compared at the same noise, and every picture can be made again in a graph of one's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import comfy.sample
import torch
from torch import Tensor

from ....core.dci.subjects import DCISubject, SubjectPrompt
from ....core.errors import require
from ....core.evaluation.figures import Made
from ....core.evaluation.prompts import EvaluationPrompt
from ....core.subject.subject import CLASS_TEMPLATE, Subject, fill
from ..dci.dual_branch import dual_branch_of
from ..dci.dual_prompt import encode_dual_prompt
from ..progress import Progress
from ..sampling.sampling import conditioning, empty_latent


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """How all pictures are sampled.

    Attributes:
        seeds: pictures per prompt.
        class_pictures: pictures of 'a {noun}'.
        size: width and height in pixels.
    """

    seeds: int = 2
    seed: int = 0
    class_pictures: int = 8
    size: int = 512
    steps: int = 25
    cfg: float = 7.0
    sampler: str = "euler"
    scheduler: str = "normal"
    negative_prompt: str = ""

    def __post_init__(self) -> None:
        for name, low in (("seeds", 1), ("steps", 1), ("class_pictures", 0)):
            require(getattr(self, name) >= low, name, getattr(self, name), f"{low} or more", "Use the default.")
        require(self.size >= 64 and self.size % 8 == 0, "size", self.size, "64 or more pixels, a multiple of 8",
                "Use the size that the model was trained at, such as 512.")

    @property
    def shown(self) -> dict[str, Any]:
        """All of them by name; an empty negative prompt is not worth a word."""
        return {name: value for name, value in asdict(self).items() if value != ""}


@dataclass(frozen=True, kw_only=True, eq=False)
class Pipeline:
    """One MODEL and CLIP.

    Attributes:
        subject: whose 'V noun' DCI replaces by its auxiliary noun; None without DCI.
        split: DCI's ablation of its prompts.
    """

    model: Any
    clip: Any
    subject: DCISubject | None = None
    split: bool = False

    def encode(self, text: str, is_about_subject: bool) -> list[list[Any]]:
        """A CONDITIONING, with its auxiliary prompt where the MODEL has DCI and the text is about the subject."""
        if self.subject is None or not is_about_subject:
            return conditioning(self.clip, text)
        return encode_dual_prompt(self.clip, SubjectPrompt(prompt=text, subjects=(self.subject,), split=self.split))


def make_pipeline(model: Any, clip: Any, identifier: str, class_noun: str, auxiliary_noun: str) -> Pipeline:
    """What samples, with DCI or without.

    Raises:
        InputError: a MODEL with DCI without an auxiliary noun, the other way round, or a noun that cannot be one.
    """
    sampling = dual_branch_of(model)
    if sampling is None:
        require(not auxiliary_noun, "auxiliary_noun", f"{auxiliary_noun!r} for a MODEL without DCI", "an empty text",
                "Clear it, or put DCI Model before this node.")
        return Pipeline(model=model, clip=clip)
    require(bool(auxiliary_noun), "auxiliary_noun", "an empty text for a MODEL with DCI",
            "a noun for DCI's other branch", "Write for example cat, or connect Auxiliary Noun Picker.")
    subject = DCISubject(identifier=identifier, class_noun=class_noun, auxiliary_noun=auxiliary_noun)
    return Pipeline(model=model, clip=clip, subject=subject, split=sampling.config.prompts == "split")


def one_subject(subjects: Sequence[Subject], identifier: str) -> tuple[Subject, str]:
    """The subject, and how prompts write it.

    Raises:
        InputError: none or several subjects, or one photo of several objects.
    """
    require(len(subjects) == 1, "subject", f"{len(subjects)} subjects", "one subject",
            "Give this node a Subject Photos of its own, unchained; use a node for each subject.")
    (subject,) = subjects
    require(len(subject.names) == 1, "subject", f"a photo of {len(subject.names)} objects", "photos of one subject",
            "Give this node Subject Photos of the one that the prompts are about.")
    return subject, identifier or subject.identifier


def reference_pipeline(model: Any, clip: Any) -> Pipeline | None:
    """What samples the class as it was before training, or None.

    Raises:
        InputError: one of the two without the other.
    """
    given = {"reference_model": model, "reference_clip": clip}
    missing = [name for name, value in given.items() if value is None]
    require(len(missing) != 1, missing[0] if missing else "", "nothing", "both reference_model and reference_clip",
            "Connect the MODEL and CLIP of the checkpoint, or neither.")
    return Pipeline(model=model, clip=clip) if model is not None else None


def sample_pictures(pipeline: Pipeline, reference: Pipeline | None, vae: Any, prompts: Sequence[EvaluationPrompt],
                    class_noun: str, settings: SamplingSettings) -> Made:
    """Every prompt at every seed, and 'a {noun}' by the model and by the reference.

    The global random state is left as it was.

    Raises:
        InterruptProcessingException: a BaseException, when the user pressed cancel.
    """
    texts = [prompt.text for prompt in prompts]
    class_texts = [fill(CLASS_TEMPLATE, "", class_noun)] if settings.class_pictures else []
    pictures = len(texts) * settings.seeds + len(class_texts) * settings.class_pictures * (2 if reference else 1)
    sampler = _Sampler(vae, settings, Progress(pictures * settings.steps))
    prompted = sampler.sample(pipeline, texts, settings.seeds, is_about_subject=True)
    classes = sampler.sample(pipeline, class_texts, settings.class_pictures)
    before = sampler.sample(reference, class_texts, settings.class_pictures) if reference and class_texts else None
    empty = prompted.new_zeros(0, *prompted.shape[2:])
    return Made(prompted=prompted, classes=classes[0] if class_texts else empty,
                before=None if before is None else before[0])


class _Sampler:
    """Samples prompt after prompt, and counts the steps."""

    def __init__(self, vae: Any, settings: SamplingSettings, progress: Progress):
        self.vae, self.settings, self.progress, self.pictures = vae, settings, progress, 0

    def sample(self, pipeline: Pipeline, texts: Sequence[str], seeds: int, is_about_subject: bool = False) -> Tensor:
        """(len(texts), seeds, 3, H, W) in 0..1; all texts are encoded first, all pictures decoded last."""
        devices = [pipeline.model.load_device.index or 0] if pipeline.model.load_device.type == "cuda" else []
        with torch.inference_mode(), torch.random.fork_rng(devices=devices):
            positives = [pipeline.encode(text, is_about_subject) for text in texts]
            negative = conditioning(pipeline.clip, self.settings.negative_prompt)
            latents = [self._sample(pipeline.model, positive, negative, (self.settings.seed + number) % 2**64)
                       for positive in positives for number in range(seeds)]
            pictures = [self._decode(one) for one in latents]
        with torch.inference_mode(False):
            return torch.stack([one.clone() for one in pictures]).unflatten(0, (-1, seeds)) if pictures \
                else torch.zeros(0, seeds, 3, self.settings.size, self.settings.size)

    def _sample(self, model: Any, positive: list[Any], negative: list[Any], seed: int) -> Tensor:
        latent, settings = empty_latent(model, self.vae, self.settings.size), self.settings
        done = self.pictures * settings.steps
        noise = comfy.sample.prepare_noise(latent, seed)
        samples = comfy.sample.sample(
            model, noise, settings.steps, settings.cfg, settings.sampler, settings.scheduler, positive, negative,
            latent, seed=seed, disable_pbar=True,
            callback=lambda step, *_: self.progress.show(done + min(step + 1, settings.steps)))
        self.pictures += 1
        self.progress.show(self.pictures * settings.steps)
        return samples

    def _decode(self, samples: Tensor) -> Tensor:
        """(3, H, W) in 0..1."""
        self.progress.show(self.progress.step)  # decoding can be cancelled, too
        picture = self.vae.decode(samples)
        return picture.reshape(-1, *picture.shape[-3:])[0].clamp(0, 1).float().cpu().movedim(-1, 0)

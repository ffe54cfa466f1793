"""A training run from step to step: what is shown, previewed, judged and kept on the way, whatever ends it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import comfy.model_management
from torch import Tensor

from ...core.errors import TrainingDiverged
from ...core.runs import Run
from ...core.trainer import Trainer, TrainingStep
from ...core.validation import History
from .judging import picture_figures, wants_pictures
from .progress import Progress, draw_losses
from .sampling import patched, sample_preview
from .sockets import PreviewSettings
from .training_key import metadata_of
from .training_request import Request
from .training_words import preview_of, save_words, with_words

UNTIL_CANCELLED = (TrainingDiverged, comfy.model_management.InterruptProcessingException)
"""Ends of a run that are no defect: what keeping it has to say then counts more."""
CHART_EVERY = 10
"""Steps between two charts of the loss while it trains, where no picture is shown."""


@dataclass
class Keeper:
    """Writes a run's state and results.

    Attributes:
        history: the judgements so far; None where nothing is judged.
        newest: step of the newest state on disk; an older one never replaces it.
    """

    request: Request
    run: Run
    trainer: Trainer
    history: History | None
    newest: int

    def keep_state(self) -> None:
        if self.trainer.step > self.newest:
            tensors, values = self.trainer.state()
            figures = self.history.figures if self.history else []
            self.run.save_state(self.trainer.step, tensors, {**values, "figures": figures})
            self.newest = self.trainer.step

    def keep_what_was_learned(self) -> None:
        """State and adapter file of a run that ends early, where weights and step count agree."""
        if self.trainer.step and not self.trainer.is_updating:
            self.keep_result()

    def keep_result(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """State and adapter file of the current step; returns the file's content."""
        self.keep_state()
        return self.keep_adapter()

    def keep_adapter(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The adapter file of the current step; returns its content."""
        learned, step = self.trainer.export(), self.trainer.step
        metadata = metadata_of(self.request, step, str(self.trainer.exposure()), learned.adapter)
        metadata |= save_words(self.run, step, learned)
        self.run.save_adapter(step, learned.adapter, metadata)
        return learned.adapter, metadata


@dataclass
class Loop:
    """Drives a trainer.

    Attributes:
        prepare: makes the models trainable again after a preview.
        pictures: the previews so far.
    """

    request: Request
    trainer: Trainer
    keeper: Keeper
    progress: Progress
    prepare: Callable[[], None]
    pictures: list[Tensor] = field(default_factory=list)

    def run(self) -> None:
        """All steps; everything is kept, whatever ends it early."""
        try:
            self.progress.show(self.trainer.step)
            for step in self.trainer.steps():
                self._after(step)
                if self._is_over(step.step):
                    break
        except UNTIL_CANCELLED:
            self.keeper.keep_what_was_learned()
            raise
        except Exception:  # out of memory in a preview, a sampler's own error
            try:
                self.keeper.keep_what_was_learned()
            except Exception:
                logging.exception("The steps since the last save could not be kept.")
            raise

    def _after(self, step: TrainingStep) -> None:
        """Preview, judge, show and save, where it is time."""
        is_last = step.step == self.request.config.steps
        picture, preview = None, self.request.preview
        if preview is not None and step.step % preview.every == 0 and not is_last:
            picture = self._pictures(preview)[0][None]
            self.pictures.append(picture)
        self._judge(step.step, is_last)
        if preview is None and step.step % CHART_EVERY == 0:
            history = self.keeper.history
            picture = draw_losses(self.trainer.losses, history.losses() if history else {})
        self.progress.show(step.step, picture)
        save_every = self.request.config.options.save_every
        if save_every and step.step % save_every == 0 and not is_last:
            self.keeper.keep_state()

    def _judge(self, step: int, is_last: bool) -> None:
        """Judge the weights; the best ones so far are kept as a file."""
        config, history = self.request.config.validation, self.keeper.history
        if config is None or history is None or (step % config.every and not is_last):
            return
        figures = {"validation_loss": self.trainer.validation_loss()} if self.trainer.is_validated else {}
        if wants_pictures(self.request) and self.request.preview is not None:
            figures |= picture_figures(self.request, self._pictures(self.request.preview, config.pictures))
        history.add(step, figures)
        if history.best_step(step) == step:
            self.keeper.keep_adapter()

    def _is_over(self, step: int) -> bool:
        history = self.keeper.history
        return history is not None and step >= history.end(self.request.config.steps)

    def _pictures(self, settings: PreviewSettings, count: int = 1) -> list[Tensor]:
        """Pictures (H, W, 3) with the weights so far, at as many seeds.

        What trains is out meanwhile, and the base weights come back exactly.
        """
        self.trainer.eject()
        try:
            learned = self.trainer.export()
            model, clip = patched(self.request.model, self.request.clip, learned.adapter)
            clip, settings = with_words(clip, learned.token_vectors), preview_of(settings, learned.token_vectors)
            return [sample_preview(model, clip, self.request.vae, replace(settings, seed=settings.seed + number),
                                   self.request.config.resolution)[0] for number in range(count)]
        finally:
            self.prepare()
            self.trainer.inject()

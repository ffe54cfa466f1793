"""A training run from step to step: what is shown, previewed, judged and kept on the way, whatever ends it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import comfy.model_management
from torch import Tensor

from ....core.errors import TrainingDiverged
from ....core.learning.trainable import Artifacts
from ....core.store.files import OUT_OF_SPACE, StorageError
from ....core.store.runs import Run, reopened
from ....core.training.divergence import divergence, explosion, is_diverged
from ....core.training.trainer import Trainer, TrainingStep
from ....core.training.validation import History
from ..notices import warn_running_node
from ..progress import Progress, draw_losses
from ..sampling.sampling import patched, sample_preview
from ..sockets import PreviewSettings
from .judging import picture_figures, wants_pictures
from .key import metadata_of
from .request import Request
from .words import preview_of, save_words, with_words, words_metadata

UNTIL_CANCELLED = (TrainingDiverged, comfy.model_management.InterruptProcessingException)
"""Ends of a run that are no defect: what keeping it has to say then counts more."""
STATE_FAILED = ("the training state could not be saved ({} in {}): training goes on, but after a stop it starts again "
                "from the last state that was; free some space, and the next save tries again")
RESULT_FAILED = ("the result could not be saved ({} in {}): MODEL, CLIP and PERSONALIZATION have it until ComfyUI "
                 "ends; free some space and keep it with Save Personalization, or queue the same graph again")
CHART_EVERY = 10
"""Steps between two charts of the loss while it trains, where no picture is shown."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """What a run has learned at a step, and what its adapter file says about it."""

    step: int
    learned: Artifacts
    metadata: dict[str, Any]


@dataclass
class Keeper:
    """Writes a run's state and results. A disk that takes neither ends no run: what failed is told at once and in the
    report, and the next save tries again.

    Attributes:
        history: the judgements so far; None where nothing is judged.
        newest: step of the newest state on disk; an older one never replaces it.
        failures: what the disk would not take, as texts for the user: "state" and "result".
        best: the best result so far, where the disk would not take it.
    """

    request: Request
    run: Run
    trainer: Trainer
    history: History | None
    newest: int
    failures: dict[str, str] = field(default_factory=dict)
    best: Result | None = None
    _stopgap: int | None = None

    def result(self) -> Result:
        """What was learned up to the current step."""
        learned, step = self.trainer.export(), self.trainer.step
        metadata = metadata_of(self.request, step, str(self.trainer.exposure()), learned.adapter)
        return Result(step=step, learned=learned, metadata=metadata | words_metadata(learned))

    def keep_result(self) -> Result:
        """Adapter file and then the state of the current step, as far as the disk takes them; the file's content."""
        result = self.result()
        if self.save(result) is None:
            self._remove(self._stopgap)
        self._try("state", STATE_FAILED, self._save_state)
        return result

    def keep_what_was_learned(self) -> None:
        """State and adapter file of a run that ends early, where weights and step count agree.

        Raises:
            StorageError: the adapter could not be written.
        """
        if not self.trainer.step or self.trainer.is_updating:
            return
        failure = self.save(self.result())
        self._try("state", STATE_FAILED, self._save_state)
        if failure is not None:
            raise failure

    def keep_state(self) -> None:
        """The state; where the disk does not take it, what was learned so far as an adapter file, in place of the last
        one that was written for this reason."""
        if self._try("state", STATE_FAILED, self._save_state) is not None:
            result, earlier = self.result(), self._stopgap
            is_new = not self.run.adapter_path(result.step).exists()
            if self.save(result) is None and is_new:
                self._stopgap = result.step
                self._remove(earlier)

    def keep_best(self) -> None:
        """The adapter file of the best step so far; in memory where the disk does not take it."""
        result = self.result()
        self.best = None if self.save(result) is None else result

    def save(self, result: Result) -> StorageError | None:
        """Write a result's files; what kept them from being written."""
        def write() -> None:
            save_words(self.run, result.step, result.learned)
            self.run.save_adapter(result.step, result.learned.adapter, result.metadata)

        failure = self._try("result", RESULT_FAILED, write)
        if failure is None or failure.reason.errno not in OUT_OF_SPACE or self._stopgap is None:
            return failure
        self._remove(self._stopgap)  # an older result, whose room the new one needs
        self._stopgap = None
        return self._try("result", RESULT_FAILED, write)

    def _save_state(self) -> None:
        if self.trainer.step > self.newest:
            tensors, values = self.trainer.state()
            figures = self.history.figures if self.history else []
            self.run.save_state(self.trainer.step, tensors, {**values, "figures": figures,
                                                          "loss_of_zeros": self.trainer.loss_of_zeros,
                                                          "relative_change": self.trainer.relative_change()})
            self.newest = self.trainer.step
            self._remove(self._stopgap)
            self._stopgap = None

    def _try(self, what: str, told: str, write: Callable[[], None]) -> StorageError | None:
        """Write in the run's folder, which is made again where it has vanished; a failure is told once."""
        try:
            self.run = reopened(self.run)
            write()
        except StorageError as reason:
            logging.warning("Step %d: %s", self.trainer.step, reason)
            if what not in self.failures:
                warn_running_node(told.format(reason.reason.strerror or reason.reason, reason.path.parent))
            self.failures[what] = told.format(reason.reason.strerror or reason.reason, reason.path.parent)
            return reason
        self.failures.pop(what, None)
        return None

    def _remove(self, step: int | None) -> None:
        """Remove a stopgap, unless it is a result that was asked for meanwhile."""
        if step is not None and step != self.trainer.step:
            self.run.remove_result(step)


@dataclass
class Loop:
    """Drives a trainer.

    Attributes:
        prepare: makes the models trainable again after a preview.
        pictures: the previews so far.
        divergence: what the user was told of a loss that rose too far; it follows from the losses alone.
        explosion: what the user was told of layers that changed too much.
    """

    request: Request
    trainer: Trainer
    keeper: Keeper
    progress: Progress
    prepare: Callable[[], None]
    pictures: list[Tensor] = field(default_factory=list)
    divergence: str | None = None
    explosion: str | None = None

    def run(self) -> None:
        """All steps; everything is kept, whatever ends it early."""
        try:
            self.progress.show(self.trainer.step)
            self._tell_divergence()
            for step in self.trainer.steps():
                if self.divergence is None and is_diverged(self.trainer.losses, self.trainer.loss_of_zeros):
                    self._tell_divergence()
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

    def _tell_divergence(self) -> None:
        """Warn where the losses so far say that learning went wrong."""
        rate = self.request.config.learning_rate
        self.divergence = divergence(self.trainer.losses, self.trainer.loss_of_zeros, rate)
        if self.divergence is not None:
            warn_running_node(self.divergence)

    def _tell_explosion(self) -> None:
        """Warn where little is left of the layers that train."""
        self.explosion = explosion(self.trainer.relative_change(), self.request.config.learning_rate)
        if self.explosion is not None:
            warn_running_node(self.explosion)

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
        is_saved = bool(save_every) and step.step % save_every == 0
        if (is_saved or is_last) and self.explosion is None:
            self._tell_explosion()
        if is_saved and not is_last:
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
            self.keeper.keep_best()

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

"""How a run comes to its result: loaded, or trained from its newest state, validated and kept on the way.

A run knows no user interface: a `Watcher` shows and samples for it. All that is asked of the models comes from
outside, too, so that nothing is loaded for a result that is already there.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch

from ..errors import InputError, TrainingDiverged
from ..learning.adapter.file_check import layer_names
from ..store.metadata import NewerVersion
from ..store.runs import Run, SavedState, only_here, open_run
from .config import TrainingConfig
from .divergence import divergence, explosion, is_diverged
from .keeper import Description, Keeper, Result, load_result
from .memory_plan import OutOfMemory, is_out_of_memory, let_go, watched, what_ran_out
from .status import duration, first_and_final
from .trainer import Trainer, TrainingStep
from .validation import History
from .watcher import Watcher

Opening = Callable[[], AbstractContextManager[tuple[Trainer, Watcher]]]
"""Loads the models of a run; gives the entered trainer in them, and who looks on."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run that is asked for.

    Attributes:
        root: where runs are kept.
        name: the run's, a label.
        key: of everything that changes the weights of a step.
        describe: what an adapter file says of a step, from (step, what was seen, names of its tensors).
        text_encoders: names that learned vectors may have vectors for.
        note: told the run once its folder is there, before anything is loaded; may put notes into it.
    """

    root: Path
    name: str
    key: str
    config: TrainingConfig
    describe: Description
    text_encoders: Collection[str] = ()
    note: Callable[[Run], None] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Finished:
    """What a run came to.

    Attributes:
        result: of the last step, or of the best one.
        file: where its adapter is kept.
        losses: one per step.
        validation: the validation loss by step, where the run was validated.
        report: what was done, for the user.
    """

    result: Result
    file: Path
    losses: list[float]
    validation: dict[int, float]
    report: str


def train_or_load(job: Job, opening: Opening) -> Finished:
    """The run's result: loaded where it is kept, or trained in what `opening` gives.

    Raises:
        InputError: another process trains this run, or its state is damaged and steps beyond its results are asked.
        StorageError: for a full disk when a run is ended early; the last good state is kept.
        TrainingDiverged: for NaN; the last good state is kept.
        OutOfMemory: memory was not enough; what was learned is kept.
    """
    with only_here(job.root, job.name, job.key):
        run = open_run(job.root, job.name, job.key)
        if job.note is not None:
            job.note(run)
        saved, damage = _saved_state(run)
        return _load(job, run, saved, damage) or _train(job, run, saved, damage, opening)


def _saved_state(run: Run) -> tuple[SavedState | None, InputError | None]:
    """The run's state, or what is wrong with it."""
    try:
        return run.load_state(), None
    except NewerVersion:
        raise
    except InputError as damage:
        return None, damage


def _load(job: Job, run: Run, saved: SavedState | None, damage: InputError | None) -> Finished | None:
    """The result at exactly the asked step (or at the best one before it), where an earlier run kept it."""
    history, steps = _history(job, saved), job.config.steps
    end = history.end(steps) if history else steps
    best = history.best_step(end) if history else None
    result = load_result(run, best or end, job.text_encoders)
    if result is None:
        return None
    done = saved.step if saved else 0
    losses = saved.metadata["losses"][:end] if saved else []
    what = f"loaded {end} steps, nothing to train" + _said_of(history, best, end)
    if done >= end:
        return _result(run, result, losses, what, history, _divergence(job, saved, losses))
    is_ahead = damage is not None or end - done > job.config.options.save_every
    if history is not None or not is_ahead:
        return None  # a stop between two files of one save; or the best step is not known
    reason = str(damage) if damage else "the training state could not be saved with it"
    warning = f"losses are known for {done} of {end} steps, and more steps start again from there: {reason}"
    return _result(run, result, losses, what, history, [warning])


def _divergence(job: Job, saved: SavedState | None, losses: Sequence[float]) -> list[str]:
    """What is known of the learning of a run that is loaded; nothing where an earlier version trained it."""
    values, rate = saved.metadata if saved else {}, job.config.learning_rate
    told = [divergence(losses, values["loss_of_zeros"], rate) if "loss_of_zeros" in values else None,
            explosion(values.get("relative_change", 0.0), rate)]
    return [text for text in told if text]


def _history(job: Job, saved: SavedState | None) -> History | None:
    """The figures of the run so far, where it is validated."""
    config = job.config.validation
    return None if config is None else History(config, saved.metadata.get("figures", ()) if saved else ())


def _said_of(history: History | None, best: int | None, end: int) -> str:
    """What the validations say, for the report."""
    if history is None or best is None:
        return ""
    name = history.config.best_by
    figure = next(entry[name] for entry in history.figures if entry["step"] == best)
    return f"; the best of {len(history.figures)} checkpoints is step {best} of {end} ({name} {figure:.4g})"


def _said_of_memory(memory: int | None) -> str:
    return "" if memory is None else f", with {memory / 1e9:.1f} GB of memory"


def _result(run: Run, result: Result, losses: list[float], what: str, history: History | None,
            warnings: Iterable[str] = (), told: Iterable[str] = ()) -> Finished:
    path = run.adapter_path(result.step)
    loss = first_and_final(losses)
    report = "\n".join([f"run {run.name}: {what}", f"{result.metadata['exposure']}.",
                        *([f"Final loss {loss[1]:.3g} (start {loss[0]:.3g})."] if loss else []),
                        f"layers that learned: {len(layer_names(result.learned.adapter))}", f"adapter file: {path}",
                        *told, *(f"Warning: {warning}" for warning in warnings)])
    return Finished(result=result, file=path, losses=losses, report=report,
                    validation=history.losses() if history else {})


def _train(job: Job, run: Run, saved: SavedState | None, damage: InputError | None, opening: Opening) -> Finished:
    """Train from the newest usable state to the asked step."""
    if damage is not None and run.results():
        raise InputError(damage.name, damage.got, f"{damage.expected}, or one of its results: "
                         f"steps {', '.join(map(str, run.results()))}", damage.fix) from damage
    usable = saved if saved is not None and saved.step <= job.config.steps else None
    first, history, began = usable.step if usable else 0, _history(job, usable), time.monotonic()
    with _memory_told(run), opening() as (trainer, watcher), watched(plan=trainer.memory_plan):
        if usable is not None:
            restore(trainer, run, usable)
        keeper = Keeper(run, trainer, watcher, job.describe, history, newest=saved.step if saved else 0)
        loop = Loop(trainer, keeper, watcher)
        loop.run()
        result = keeper.keep_result()
        losses, last = list(trainer.losses), trainer.step
        spent = f" in {duration(time.monotonic() - began)}{_said_of_memory(watcher.memory())}"
    best = history.best_step(last) if history else None
    if best is not None and best != last:
        result = keeper.best or load_result(keeper.run, best, job.text_encoders) or result
    what = f"trained {last - first} steps" + (f", resumed from step {first}" if first else "") + spent
    warnings = [*keeper.failures.values(), *(told for told in (loop.divergence, loop.explosion) if told)]
    told = [trainer.memory_plan.told(loop.seconds)] if trainer.memory_plan else []
    return _result(keeper.run, result, losses, what + _said_of(history, best, last), history, warnings, told)


@contextmanager
def _memory_told(run: Run) -> Iterator[None]:
    """Within the context memory that is not enough ends with what would do, which the next Run takes.

    Raises:
        OutOfMemory: memory was not enough; what was learned is kept.
    """
    try:
        with watched():
            yield
    except OutOfMemory as error:
        way = error.plan and error.plan.instead(bool(error.doing))
        if error.plan and way:
            for passed in (error.plan, *error.plan.slower[:error.plan.slower.index(way)]):
                run.note_out_of_memory(passed.name, error.plan.free)
        raise OutOfMemory(f"{what_ran_out(error, _kept_step(run))} ({error})") from error


def _kept_step(run: Run) -> int:
    """The last step that is on disk."""
    try:
        saved = run.load_state()
    except InputError:
        saved = None
    return max([*run.results(), saved.step if saved else 0])


def restore(trainer: Trainer, run: Run, saved: SavedState) -> None:
    """Go on from a state.

    Raises:
        InputError: the state does not fit the run; names the file.
    """
    try:
        trainer.load_state(saved.tensors, saved.metadata)
    except torch.OutOfMemoryError:
        raise
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError) as reason:
        raise InputError("file", f"{run.state_path}: a damaged state ({reason})", f"the state of the run {run.name}",
                         f"Remove that file to train this run again from the start: {run.state_path}") from reason


@dataclass
class Loop:
    """Drives a trainer.

    Attributes:
        divergence: what the user was told of a loss that rose too far; it follows from the losses alone.
        explosion: what the user was told of layers that changed too much.
    """

    trainer: Trainer
    keeper: Keeper
    watcher: Watcher
    divergence: str | None = None
    explosion: str | None = None
    _seconds: deque[float] = field(default_factory=lambda: deque(maxlen=20))

    def run(self) -> None:
        """All steps; everything is kept, whatever ends it early."""
        ends: tuple[type[BaseException], ...] = (TrainingDiverged, *self.watcher.cancels)
        try:
            self._show()
            self._tell_divergence()
            for step in self._timed_steps():
                if self.divergence is None and is_diverged(self.trainer.losses, self.trainer.loss_of_zeros):
                    self._tell_divergence()
                self._after(step.step)
                if self._is_over(step.step):
                    break
        except ends as end:  # no defects: what keeping it has to say counts more
            self.keeper.keep_what_was_learned()
            if isinstance(end, self.watcher.cancels):
                self.watcher.stopped(self.trainer.step, self.keeper.newest)
            raise
        except Exception as error:  # out of memory, a sampler's own error in a preview
            if is_out_of_memory(error):
                let_go(error)
                self.trainer.updates.optimizer.zero_grad(set_to_none=True)
            try:
                self.keeper.keep_what_was_learned()
            except Exception:
                logging.exception("The steps since the last save could not be kept.")
            raise

    @property
    def seconds(self) -> float | None:
        """The median time of the last steps, without what comes between them."""
        return median(self._seconds) if self._seconds else None

    def _timed_steps(self) -> Iterator[TrainingStep]:
        started = time.monotonic()
        for step in self.trainer.steps():
            self._seconds.append(time.monotonic() - started)
            yield step
            started = time.monotonic()

    def _tell_divergence(self) -> None:
        """Warn where the losses so far say that learning went wrong."""
        rate = self.trainer.config.learning_rate
        self.divergence = divergence(self.trainer.losses, self.trainer.loss_of_zeros, rate)
        if self.divergence is not None:
            self.watcher.warn(self.divergence)

    def _tell_explosion(self) -> None:
        """Warn where little is left of the layers that train."""
        self.explosion = explosion(self.trainer.relative_change(), self.trainer.config.learning_rate)
        if self.explosion is not None:
            self.watcher.warn(self.explosion)

    def _after(self, step: int) -> None:
        """Preview, validate, show and save, where it is time."""
        options, is_last = self.trainer.config.options, step == self.trainer.config.steps
        if not is_last:
            self.watcher.preview(step)
        self._validate(step, is_last)
        self._show()
        is_saved = _is_time(step, options.save_every)
        if (is_saved or is_last) and self.explosion is None:
            self._tell_explosion()
        if is_last:
            return
        if _is_time(step, options.keep_every):
            self.keeper.keep_step()
        if is_saved:
            self.keeper.keep_state()

    def _validate(self, step: int, is_last: bool) -> None:
        """Validate the weights; the best ones so far are kept as a file."""
        history = self.keeper.history
        if history is None or (step % history.config.every and not is_last):
            return
        figures = {"validation_loss": self.trainer.validation_loss()} if self.trainer.is_validated else {}
        history.add(step, figures | self.watcher.picture_figures())
        if history.best_step(step) == step:
            self.keeper.keep_best()

    def _show(self) -> None:
        history = self.keeper.history
        self.watcher.progress(self.trainer.step, self.trainer.losses, history.losses() if history else {})

    def _is_over(self, step: int) -> bool:
        history = self.keeper.history
        return history is not None and step >= history.end(self.trainer.config.steps)


def _is_time(step: int, every: int) -> bool:
    """Whether something that happens every so many steps, or never for 0, happens after this one."""
    return bool(every) and step % every == 0

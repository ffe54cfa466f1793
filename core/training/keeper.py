"""What of a run is kept, and when: its state, and its results, which are adapters and learned vectors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from ..errors import InputError
from ..learning.adapter.file_check import layers_of
from ..learning.trainable import Artifacts
from ..store.files import OUT_OF_SPACE, StorageError
from ..store.runs import Run, reopened
from .trainer import Trainer
from .validation import History
from .watcher import Watcher

STATE_FAILED = ("the training state could not be saved ({} in {}): training goes on, but after a stop it starts again "
                "from the last state that was; free some space, and the next save tries again")
STEP_FAILED = "the adapter of this step could not be kept ({} in {}): training goes on without it"
RESULT_FAILED = "the result could not be saved ({} in {}): "
VECTORS = "words"
"""Key of the learned vectors in an adapter file's metadata."""
Description = Callable[[int, str, Iterable[str]], dict[str, Any]]


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
        watcher: is told what the disk would not take.
        describe: what an adapter file says of a step, from (step, what was seen, names of its tensors).
        history: the validation figures so far; None where nothing is validated.
        newest: step of the newest state on disk; an older one never replaces it.
        failures: what the disk would not take, as texts for the user: "state", "step" and "result".
        best: the best result so far, where the disk would not take it.
    """

    run: Run
    trainer: Trainer
    watcher: Watcher
    describe: Description
    history: History | None
    newest: int
    failures: dict[str, str] = field(default_factory=dict)
    best: Result | None = None
    _stopgap: int | None = None

    def result(self) -> Result:
        """What was learned up to the current step."""
        learned, step = self.trainer.export(), self.trainer.step
        metadata = self.describe(step, str(self.trainer.exposure()), learned.adapter)
        return Result(step=step, learned=learned, metadata=metadata | vectors_metadata(learned))

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

    def keep_step(self) -> None:
        """The adapter file of the current step, beside those of others; the run goes on where the disk takes none."""
        result = self.result()
        self._try("step", STEP_FAILED, lambda: self._write(result))

    def keep_best(self) -> None:
        """The adapter file of the best step so far; in memory where the disk does not take it."""
        result = self.result()
        self.best = None if self.save(result) is None else result

    def save(self, result: Result) -> StorageError | None:
        """Write a result's files; what kept them from being written."""
        def write() -> None:
            self._write(result)

        failure = self._try("result", RESULT_FAILED + self.watcher.unsaved, write)
        if failure is None or failure.reason.errno not in OUT_OF_SPACE or self._stopgap is None:
            return failure
        self._remove(self._stopgap)  # an older result, whose room the new one needs
        self._stopgap = None
        return self._try("result", RESULT_FAILED + self.watcher.unsaved, write)

    def _write(self, result: Result) -> None:
        save_vectors(self.run, result.step, result.learned)
        self.run.save_adapter(result.step, result.learned.adapter, result.metadata)

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
            failure = told.format(reason.reason.strerror or reason.reason, reason.path.parent)
            if what not in self.failures:
                self.watcher.warn(failure)
            self.failures[what] = failure
            return reason
        self.failures.pop(what, None)
        return None

    def _remove(self, step: int | None) -> None:
        """Remove a stopgap, unless it is a result that was asked for meanwhile."""
        if step is not None and step != self.trainer.step:
            self.run.remove_result(step)


def load_result(run: Run, step: int, encoders: Collection[str]) -> Result | None:
    """The result of a step, where the run store has it whole.

    Args:
        encoders: names of text encoders that vectors may belong to.
    """
    found = run.load_adapter(step)
    vectors = None if found is None else load_vectors(run, found[1], encoders)
    if found is None or vectors is None:
        return None
    try:
        layers_of(run.adapter_path(step), found[0])
    except InputError as damage:  # half of a layer: it is made again from the state
        logging.warning("%s", damage)
        return None
    return Result(step=step, learned=replace(vectors, adapter=found[0]), metadata=found[1])


def vectors_metadata(learned: Artifacts) -> dict[str, Any]:
    """What an adapter file's metadata says of its vectors."""
    groups = {"token_vectors": learned.token_vectors, "contexts": learned.contexts}
    return {VECTORS: {group: sorted(found) for group, found in groups.items()}} if any(groups.values()) else {}


def save_vectors(run: Run, step: int, learned: Artifacts) -> None:
    """Keep the vectors of a step in the run store, where there are any.

    Raises:
        StorageError: for a full disk.
    """
    groups = {"token_vectors": learned.token_vectors, "contexts": learned.contexts}
    tensors = {f"{group}/{word}/{kind}": vectors for group, own in groups.items()
               for word, found in own.items() for kind, vectors in found.items()}
    if tensors:
        run.save_vectors(step, tensors, vectors_metadata(learned))


def load_vectors(run: Run, metadata: Mapping[str, Any], encoders: Collection[str]) -> Artifacts | None:
    """The vectors that belong to an adapter file; None where they are missing or damaged."""
    if VECTORS not in metadata:
        return Artifacts()
    found = run.load_vectors(metadata["steps"])
    if found is None:
        return None
    groups: dict[str, dict[str, dict[str, Tensor]]] = {"token_vectors": {}, "contexts": {}}
    for name, vectors in found[0].items():
        group, _, rest = name.partition("/")
        word, _, kind = rest.rpartition("/")
        if group not in groups or kind not in encoders or vectors.ndim != 2:
            return None
        groups[group].setdefault(word, {})[kind] = vectors
    said = {group: sorted(found) for group, found in groups.items()}
    if said != {"token_vectors": [], "contexts": [], **metadata[VECTORS]}:
        return None
    return Artifacts(token_vectors=groups["token_vectors"], contexts=groups["contexts"])

"""A run is loaded, resumed, extended, judged and kept by one policy that knows no user interface."""

import errno
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from run_store import ADAPTER
from tiny_unet import same_bits, trainer, training_config

from comfyui_personalize.core.errors import InputError, TrainingDiverged
from comfyui_personalize.core.learning.token_vectors import TokenVectorsConfig
from comfyui_personalize.core.store import files
from comfyui_personalize.core.store.files import StorageError, read_metadata
from comfyui_personalize.core.training.run import Job, train_or_load
from comfyui_personalize.core.training.trainer import Trainer
from comfyui_personalize.core.training.validation import ValidationConfig
from comfyui_personalize.core.training.watcher import Watcher

WORDS = (TokenVectorsConfig(word="sks", count=2, start_text="dog", learning_rate=0.01),)


class Cancelled(BaseException):
    """The user's cancel, which is no `Exception` in ComfyUI either."""


@dataclass
class Recorder(Watcher):
    """Writes down what it is told; judges by given figures, and cancels or fails at given steps."""

    cancels = (Cancelled,)
    figures: list[float] = field(default_factory=list)
    cancel_at: int | None = None
    fail_at: int | None = None
    shown: list[int] = field(default_factory=list)
    previewed: list[int] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    stops: list[tuple[int, int]] = field(default_factory=list)

    def preview(self, step):
        self.previewed.append(step)
        if step == self.fail_at:
            raise RuntimeError("out of memory in a preview")

    def picture_figures(self):
        return {"clip_i": self.figures.pop(0)} if self.figures else {}

    def progress(self, step, losses, validation):
        assert len(losses) == step
        self.shown.append(step)
        if step == self.cancel_at:
            raise Cancelled

    def memory(self):
        return 3_100_000_000

    def stopped(self, step, kept):
        self.stops.append((step, kept))

    def warn(self, text):
        self.told.append(text)


@dataclass
class Rig:
    """A store, and runs in it."""

    root: Path
    opened: int = 0

    def run(self, watcher=None, **options):
        """The run of these options."""
        validation, words = options.pop("validation", None), options.pop("words", ())
        config = replace(training_config(**options), validation=validation, token_vectors=words)
        job = Job(root=self.root, name="test", key="k", config=config, text_encoders=("l",),
                  describe=lambda step, exposure, names: ADAPTER | {"steps": step, "exposure": exposure})

        @contextmanager
        def opening():
            self.opened += 1
            with trainer(config) as run:
                yield run, watcher or Recorder()

        return train_or_load(job, opening)

    def steps(self):
        """The steps whose results are kept, and that of the state."""
        state = self.root / "test" / "state.safetensors"
        kept = sorted(int(path.stem.split("-")[1]) for path in self.root.glob("test/adapter-*"))
        return kept, read_metadata(state)["step"] if state.exists() else None


@pytest.fixture
def rig(tmp_path):
    return Rig(tmp_path / "runs")


def adapter(finished):
    return finished.result.learned.adapter


def disk_full(monkeypatch, about, last=999):
    """The disk takes no file of that name, until so many were tried."""
    original, calls = files._fill, []

    def fill(file, data):
        if about in file.name:
            calls.append(1)
            if len(calls) <= last:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(file, data)

    monkeypatch.setattr(files, "_fill", fill)


# What a run says


def test_the_report_says_time_memory_exposure_and_loss_in_words(rig):
    finished = rig.run()
    first, second, third = finished.report.splitlines()[:3]
    assert re.fullmatch(r"run test: trained 3 steps in \d+ s, with 3\.1 GB of memory", first)
    assert second == f"{finished.result.metadata['exposure']}." and " used " in second
    start, final = finished.losses[0], finished.losses[-1]
    assert third == f"Final loss {final:.3g} (start {start:.3g})."


def test_a_run_that_is_loaded_says_the_same_but_for_time_and_memory(rig):
    trained, loaded = rig.run().report.splitlines(), rig.run().report.splitlines()
    assert loaded[1:] == trained[1:] and loaded[0] == "run test: loaded 3 steps, nothing to train"


# Load, resume, extend


def test_a_finished_run_is_loaded_and_no_model_is_opened(rig):
    first, again = rig.run(), rig.run()
    assert rig.opened == 1 and same_bits(adapter(first), adapter(again)) and first.losses == again.losses
    assert "trained 3 steps" in first.report and "loaded 3 steps, nothing to train" in again.report
    assert first.file == again.file and first.file.exists()


def test_more_steps_extend_a_run_to_the_bits_of_a_longer_one(rig, tmp_path):
    rig.run(steps=2)
    longer = rig.run(steps=5)
    assert "trained 3 steps, resumed from step 2" in longer.report and len(longer.losses) == 5
    assert same_bits(adapter(longer), adapter(Rig(tmp_path / "other").run(steps=5)))


def test_fewer_steps_whose_result_is_not_kept_train_from_the_start_and_leave_the_longer_state(rig):
    rig.run(steps=4)
    assert "trained 2 steps" in rig.run(steps=2).report
    assert rig.steps() == ([2, 4], 4) and "loaded 4 steps" in rig.run(steps=4).report


def test_learned_vectors_are_loaded_with_their_result_and_not_without(rig):
    first, again = rig.run(words=WORDS), rig.run(words=WORDS)
    assert rig.opened == 1
    assert same_bits(first.result.learned.token_vectors["sks"], again.result.learned.token_vectors["sks"])
    (rig.root / "test" / "words-000003.safetensors").unlink()
    assert "trained 0 steps" in rig.run(words=WORDS).report and rig.opened == 2


def test_a_damaged_state_is_no_ground_to_train_over_a_result(rig):
    rig.run()
    (rig.root / "test" / "state.safetensors").write_bytes(b"x" * 1000)
    assert "losses are known for 0 of 3 steps" in rig.run().report
    with pytest.raises(InputError, match="or one of its results: steps 3. Remove that file"):
        rig.run(steps=4)


# Cancel and failure


def test_a_cancel_keeps_state_and_result_and_the_run_goes_on_to_the_same_bits(rig, tmp_path):
    with pytest.raises(Cancelled):
        rig.run(Recorder(cancel_at=2), steps=4)
    assert rig.steps() == ([2], 2)
    resumed = rig.run(steps=4)
    assert "resumed from step 2" in resumed.report
    assert same_bits(adapter(resumed), adapter(Rig(tmp_path / "other").run(steps=4)))


def test_a_cancel_before_the_first_step_keeps_nothing(rig):
    watcher = Recorder(cancel_at=0)
    with pytest.raises(Cancelled):
        rig.run(watcher)
    assert rig.steps() == ([], None) and watcher.stops == [(0, 0)]


def test_a_cancel_says_what_is_kept_and_an_error_does_not(rig, monkeypatch):
    cancelled, failing = Recorder(cancel_at=2), Recorder(fail_at=3)
    with pytest.raises(Cancelled):
        rig.run(cancelled, steps=5)
    with pytest.raises(RuntimeError):
        rig.run(failing, steps=5)
    assert (cancelled.stops, failing.stops) == ([(2, 2)], [])
    disk_full(monkeypatch, "state.")
    cancelled = Recorder(cancel_at=4)
    with pytest.raises(Cancelled):
        rig.run(cancelled, steps=5)
    assert cancelled.stops == [(4, 3)]


def test_an_error_in_a_preview_keeps_what_was_learned(rig):
    with pytest.raises(RuntimeError, match="out of memory in a preview"):
        rig.run(Recorder(fail_at=2), steps=4)
    assert rig.steps() == ([2], 2)


def test_divergence_keeps_the_last_good_step(rig, monkeypatch):
    train_step = Trainer._train_step

    def diverging(run):
        if run.step == 2:
            raise TrainingDiverged("step 3: got a loss of nan")
        return train_step(run)

    monkeypatch.setattr(Trainer, "_train_step", diverging)
    with pytest.raises(TrainingDiverged):
        rig.run(steps=4)
    assert rig.steps() == ([2], 2)


# Steps that are kept on the way


def test_kept_steps_change_no_bit_of_the_last_one_nor_of_its_file(rig, tmp_path):
    kept = rig.run(steps=5, keep_every=2, save_every=2, words=WORDS)
    plain = Rig(tmp_path / "plain")
    last = plain.run(steps=5, save_every=2, words=WORDS)
    assert rig.steps() == ([2, 4, 5], 5) and plain.steps() == ([5], 5)
    assert kept.file.read_bytes() == last.file.read_bytes() and kept.losses == last.losses


def test_a_kept_step_is_the_result_of_a_run_of_so_many_steps(rig, tmp_path):
    rig.run(steps=5, keep_every=2, words=WORDS)
    short = Rig(tmp_path / "short").run(steps=2, words=WORDS)
    kept = rig.run(steps=2, words=WORDS)
    assert rig.opened == 1 and kept.file.read_bytes() == short.file.read_bytes()
    assert same_bits(kept.result.learned.token_vectors["sks"], short.result.learned.token_vectors["sks"])


def test_a_resumed_run_keeps_the_steps_from_before_and_those_to_come(rig):
    with pytest.raises(Cancelled):
        rig.run(Recorder(cancel_at=3), steps=6, keep_every=2)
    assert rig.steps() == ([2, 3], 3)
    rig.run(steps=6, keep_every=2)
    assert rig.steps() == ([2, 3, 4, 6], 6)


def test_a_disk_that_takes_no_kept_step_ends_no_run_and_is_told_once(rig, monkeypatch):
    disk_full(monkeypatch, "adapter-", last=2)
    watcher = Recorder()
    finished = rig.run(watcher, steps=6, keep_every=2)
    assert rig.steps() == ([6], 6) and finished.result.step == 6
    (told,) = watcher.told
    assert told.startswith("the adapter of this step could not be kept (No space left")


def test_a_kept_step_stays_where_the_state_could_not_be_saved_beside_it(rig, monkeypatch):
    disk_full(monkeypatch, "state.", last=1)
    rig.run(steps=5, keep_every=2, save_every=2)
    assert rig.steps() == ([2, 4, 5], 5)


# Saves that fail


def test_a_state_that_cannot_be_saved_ends_no_run_and_is_told_once(rig, monkeypatch):
    disk_full(monkeypatch, "state.")
    watcher = Recorder()
    finished = rig.run(watcher, steps=4, save_every=1)
    assert rig.steps() == ([4], None)
    (told,) = watcher.told
    assert told.startswith("the training state could not be saved (No space left") and told in finished.report


def test_a_result_that_cannot_be_saved_is_handed_on_with_what_the_user_can_do(rig, monkeypatch, tmp_path):
    whole = Rig(tmp_path / "other").run()
    disk_full(monkeypatch, "adapter-")
    watcher = Recorder()
    watcher.unsaved = "keep it elsewhere"
    finished = rig.run(watcher)
    assert same_bits(adapter(finished), adapter(whole)) and rig.steps() == ([], 3)
    assert "the result could not be saved (No space left" in finished.report and "keep it elsewhere" in finished.report


def test_a_save_that_works_again_leaves_no_warning(rig, monkeypatch):
    disk_full(monkeypatch, "state.", last=1)
    finished = rig.run(steps=4, save_every=2)
    assert "Warning" not in finished.report and rig.steps() == ([4], 4)


def test_a_cancel_whose_result_cannot_be_saved_says_so(rig, monkeypatch):
    disk_full(monkeypatch, "adapter-")
    with pytest.raises(StorageError):
        rig.run(Recorder(cancel_at=2), steps=4)
    assert rig.steps() == ([], 2)


# Judging


def judged(**changes):
    return ValidationConfig(**{"every": 1, "best_by": "clip_i"} | changes)


def test_the_best_checkpoint_is_handed_on_and_loaded_again(rig):
    first = rig.run(Recorder(figures=[0.1, 0.9, 0.5]), validation=judged())
    assert "the best of 3 checkpoints is step 2 of 3 (clip_i 0.9)" in first.report and first.result.step == 2
    again = rig.run(validation=judged())
    assert rig.opened == 1 and again.result.step == 2 and same_bits(adapter(first), adapter(again))


def test_the_best_checkpoint_is_handed_on_where_the_disk_would_not_take_it(rig, monkeypatch, tmp_path):
    whole = Rig(tmp_path / "other").run(Recorder(figures=[0.1, 0.9, 0.5]), validation=judged())
    disk_full(monkeypatch, "adapter-")
    finished = rig.run(Recorder(figures=[0.1, 0.9, 0.5]), validation=judged())
    assert finished.result.step == 2 and same_bits(adapter(finished), adapter(whole))


def test_patience_ends_a_run_early_and_the_same_run_is_loaded(rig):
    watcher = Recorder(figures=[0.9, 0.5, 0.4, 0.3])
    finished = rig.run(watcher, steps=9, validation=judged(patience=2))
    assert watcher.shown == [0, 1, 2, 3] and len(finished.losses) == 3 and finished.result.step == 1
    assert "loaded 3 steps" in rig.run(steps=9, validation=judged(patience=2)).report and rig.opened == 1


def test_judgements_survive_a_cancel(rig):
    with pytest.raises(Cancelled):
        rig.run(Recorder(figures=[0.9, 0.5], cancel_at=2), steps=4, validation=judged())
    resumed = rig.run(Recorder(figures=[0.3, 0.4]), steps=4, validation=judged())
    assert resumed.result.step == 1 and "the best of 4 checkpoints" in resumed.report


def test_steps_are_shown_from_where_a_run_goes_on_and_the_last_one_is_not_previewed(rig):
    rig.run(steps=2)
    watcher = Recorder()
    rig.run(watcher, steps=5)
    assert watcher.shown == [2, 3, 4, 5] and watcher.previewed == [3, 4]

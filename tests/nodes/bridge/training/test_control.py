"""What the user asks of a run that trains: a picture changes no bit, a pause keeps everything and goes on exactly."""

from __future__ import annotations

import comfy.model_management
import comfy.samplers
import pytest
import torch
from trainer_rig import Untouched, equal, train, use_store

from comfyui_personalize.nodes.bridge.training import loop, run
from comfyui_personalize.nodes.bridge.training.control import RUNNING
from comfyui_personalize.nodes.bridge.training.loop import NodeWatcher
from comfyui_personalize.nodes.bridge.training.previews import is_due

pytestmark = pytest.mark.usefixtures("inference_mode")
Interrupted = comfy.model_management.InterruptProcessingException


@pytest.fixture(scope="module")
def whole(models, tmp_path_factory):
    """Four steps of which nobody asks anything."""
    with pytest.MonkeyPatch.context() as patch:
        use_store(tmp_path_factory.mktemp("whole"), patch)
        return train(models, steps=4)


def asking(monkeypatch, at: int, ask) -> None:
    """After a step the run that trains is asked something, as a route does."""
    preview = NodeWatcher.preview

    def asked(watcher, step):
        if step == at:
            ask(*RUNNING.values())
        preview(watcher, step)

    monkeypatch.setattr(NodeWatcher, "preview", asked)


def events(monkeypatch) -> list[tuple]:
    """What the client is told."""
    sent: list[tuple] = []
    monkeypatch.setattr(loop, "tell", lambda event, **values: sent.append((event, values)))
    return sent


@pytest.mark.parametrize(("total", "steps"), [(120, [30, 60, 90]), (4, [1, 2, 3]), (2, [1, 2]), (1, [1]),
                                              (10, [2, 5, 8])])
def test_pictures_come_after_a_quarter_half_and_three_quarters_by_default(total, steps):
    assert [step for step in range(1, total + 1) if is_due(step, total, 0)] == steps
    assert [step for step in range(1, 11) if is_due(step, 10, 4)] == [4, 8]


def test_a_pause_keeps_everything_and_run_goes_on_to_the_same_bits(models, whole, tmp_path, monkeypatch):
    use_store(tmp_path, monkeypatch)
    with Untouched(models), monkeypatch.context() as patch, pytest.raises(Interrupted):
        sent = events(patch)
        asking(patch, 2, lambda control: control.ask_pause())
        train(models, steps=4)
    assert sent[-1] == ("personalize.stopped", {"text": "Paused at step 2 of 4, kept. Press Run to go on"})
    assert RUNNING == {} and not comfy.model_management.processing_interrupted()
    again = train(models, steps=4)
    assert "resumed from step 2" in again[6] and equal(again[2], whole[2]) and again[3] == whole[3]


def test_a_cancel_while_photos_are_encoded_says_that_nothing_is_lost(models, tmp_path, monkeypatch):
    def cancelled(*_):
        raise Interrupted

    use_store(tmp_path, monkeypatch)
    sent: list[tuple] = []
    monkeypatch.setattr(run, "tell", lambda event, **values: sent.append((event, values.get("text"))))
    monkeypatch.setattr(run, "encode_views", cancelled)
    with pytest.raises(Interrupted):
        train(models, steps=4)
    told = "Stopped before a step was trained; nothing is lost. Press Run to go on"
    assert ("personalize.stopped", told) in sent


def test_a_pause_that_comes_with_the_last_step_is_the_end(models, whole, tmp_path, monkeypatch):
    use_store(tmp_path, monkeypatch)
    asking(monkeypatch, 3, lambda control: monkeypatch.setattr(
        loop, "show_on_running_node", lambda line: control.ask_pause() if "step 4" in line else None))
    assert equal(train(models, steps=4)[2], whole[2])


def test_a_picture_that_is_asked_for_is_shown_and_changes_no_bit(models, whole, tmp_path, monkeypatch):
    use_store(tmp_path, monkeypatch)
    shown: list = []
    show = loop.Progress.show
    monkeypatch.setattr(loop.Progress, "show", lambda bar, step, picture=None: (
        shown.append(step) if picture is not None else None, show(bar, step, picture)))
    asking(monkeypatch, 2, lambda control: control.ask_picture())
    drawn = train(models, steps=4)
    assert shown == [2] and equal(drawn[2], whole[2]) and drawn[3] == whole[3]
    assert torch.equal(drawn[4], whole[4])  # the IMAGE output does not depend on clicks


def test_a_picture_that_fails_is_told_and_training_goes_on(models, whole, tmp_path, monkeypatch):
    use_store(tmp_path, monkeypatch)
    told: list[str] = []
    monkeypatch.setattr(loop, "warn_running_node", told.append)

    def fail(*_, **__):
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(comfy.samplers.KSampler, "sample", fail)
    asking(monkeypatch, 2, lambda control: control.ask_picture())
    drawn = train(models, steps=4)
    assert told == ["no picture could be drawn, training goes on: no memory"] and equal(drawn[2], whole[2])


def test_the_chart_of_a_run_goes_to_its_node_and_to_the_route(models, tmp_path, monkeypatch):
    use_store(tmp_path, monkeypatch)
    sent = events(monkeypatch)
    train(models, steps=4)
    values = sent[-1][1]
    assert sent[-1][0] == "personalize.training" and (values["step"], values["of"]) == (4, 4)
    assert [step for step, _ in values["chart"]["losses"]] == [1, 2, 3, 4] and values["draws"] is True

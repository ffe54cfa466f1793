"""Progress is told often enough, a cancel is heard, and the loss curve is a picture."""

from __future__ import annotations

import json
import threading
import time

import comfy.model_management
import comfy.utils
import pytest
import torch
from comfy_execution.utils import CurrentNodeContext

from comfyui_personalize.nodes.bridge import progress as progress_module
from comfyui_personalize.nodes.bridge.progress import MOST_DOTS, Progress, chart, plot_losses, running_means


@pytest.fixture
def told(monkeypatch):
    """What ComfyUI's progress hook is told."""
    calls: list[tuple] = []
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK",
                        lambda value, total, preview, node_id=None: calls.append((value, total, preview)))
    return calls


def test_steps_and_pictures_are_told(told):
    bar = Progress(4)
    bar.show(1)
    bar.show(2, torch.full((1, 16, 16, 3), 0.5))
    assert told[0] == (1, 4, None)
    value, total, (kind, picture, _) = told[1]
    assert (value, total, kind, picture.size, picture.getpixel((0, 0))) == (2, 4, "JPEG", (16, 16), (128, 128, 128))


def test_a_cancel_is_heard_at_the_next_step(told):
    comfy.model_management.interrupt_current_processing(True)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        Progress(4).show(1)
    Progress(4).show(2)


def test_silence_is_broken_during_a_long_step_without_taking_a_cancel(told, monkeypatch):
    beats: list[tuple] = []
    enough = threading.Event()

    class Registry:
        def update_progress(self, *arguments):
            beats.append(arguments)
            if len(beats) == 3:
                enough.set()

    monkeypatch.setattr(progress_module, "get_progress_state", Registry)
    with CurrentNodeContext("prompt", "7"):
        bar = Progress(4)
        bar.show(3)
        with bar.heartbeat(seconds=0.02):
            comfy.model_management.interrupt_current_processing(True)
            assert enough.wait(600), "no heartbeat"
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            bar.show(4)
    count = len(beats)
    assert count >= 2 and beats[0] == ("7", 3, 4, None)
    time.sleep(0.05)
    assert len(beats) == count


@pytest.mark.parametrize("losses", [[], [0.5], [0.0, 0.0], [0.9, 0.5, 0.1] * 40])
def test_any_loss_history_becomes_a_picture(losses):
    curve = plot_losses(losses)
    assert curve.shape == (1, 400, 640, 3) and 0 <= curve.min() <= curve.max() <= 1


def test_the_running_mean_of_a_constant_is_the_constant():
    assert running_means([0.25] * 50) == pytest.approx([0.25] * 50)


def test_a_chart_of_a_long_run_has_few_points_and_the_last_step():
    made = chart([1 / (step + 1) for step in range(5000)], {4000: 0.5, 2000: float("nan"), 1000: 0.6})
    assert len(made["losses"]) == len(made["means"]) <= MOST_DOTS + 1
    assert made["losses"][-1] == [5000, 0.0002] and made["validation"] == [[1000, 0.6], [4000, 0.5]]
    assert json.dumps(made, allow_nan=False)


def test_a_chart_of_nothing_is_empty_and_of_few_steps_has_all_of_them():
    assert chart([]) == {"losses": [], "means": [], "validation": []}
    assert chart([0.5, 0.25])["losses"] == [[1, 0.5], [2, 0.25]]

"""The line that a run says of itself."""

import pytest

from comfyui_personalize.core.training.status import Status, duration, first_and_final, stopped


class Clock:
    """Seconds that a test moves."""

    now = 0.0

    def __call__(self):
        return self.now


def lines(total, seconds, losses=None, memory=3_100_000_000):
    """What is said after each step, which takes so long."""
    clock, said = Clock(), []
    status = Status(total, lambda: memory, clock)
    for step, taken in enumerate(seconds, 1):
        clock.now += taken
        said.append(status.line(step, (losses or [0.41] * total)[:step]))
    return said


def test_step_loss_pace_time_left_and_memory_are_told():
    said = lines(300, [0.125] * 170)
    assert [line for line in said if line][-1] == "step 169 of 300 · loss 0.41 · 0.12 s/step · 16 s left · 3.1 GB"


def test_a_line_comes_once_a_second_and_at_the_end():
    said = lines(40, [0.25] * 40)
    assert [step for step, line in enumerate(said, 1) if line] == [1, 5, 9, 13, 17, 21, 25, 29, 33, 37, 40]


def test_pictures_between_steps_do_not_slow_the_pace():
    said = lines(100, [1.0, 1.0, 60.0, 1.0, 1.0])
    assert "1 s/step" in said[-1] and "2 min left" in said[-1]


def test_the_loss_is_a_mean_over_a_tenth_of_the_run():
    said = lines(40, [1.0] * 8, losses=[8.0] * 4 + [1.0, 2.0, 3.0, 6.0])
    assert "loss 3 ·" in said[-1]


def test_before_the_second_step_there_is_no_pace():
    assert lines(10, [1.0]) == ["step 1 of 10 · loss 0.41 · 3.1 GB"]


@pytest.mark.parametrize(("seconds", "text"), [(45, "45 s"), (89.6, "90 s"), (720, "12 min"), (12_600, "3.5 h")])
def test_durations_are_for_people(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("kept", "text"), [
    (67, "Stopped at step 67 of 120, kept. Press Run to go on"),
    (60, "Stopped at step 67 of 120, kept up to step 60. Press Run to go on from there"),
    (0, "Stopped at step 67 of 120. Press Run to start again"),
    (300, "Stopped at step 67 of 120. Press Run to start again")])  # the state of a longer run
def test_a_run_that_was_stopped_says_from_where_it_goes_on(kept, text):
    assert stopped(67, 120, kept) == text


def test_a_pause_says_so():
    assert stopped(67, 120, 67, "Paused") == "Paused at step 67 of 120, kept. Press Run to go on"


def test_the_first_and_the_final_loss_are_means_over_a_tenth_of_the_run():
    assert first_and_final([2.0, 4.0, *[9.0] * 16, 1.0, 2.0]) == (3.0, 1.5)
    assert first_and_final([0.5]) == (0.5, 0.5) and first_and_final([]) is None

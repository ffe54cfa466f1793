"""DCI's window by the latents' size: published at 64 x 64, the sweep's at 12 x 12, shorter for larger ones."""

import math

import pytest

from comfyui_personalize.core.dci.window import automatic_end, automatic_window, given_window


def schedule(percent: float) -> float:
    """sigma 14.6 to 0.03, evenly in its logarithm."""
    return 0.0 if percent >= 1 else math.exp(math.log(14.6) + percent * math.log(0.03 / 14.6))


@pytest.mark.parametrize(("cells", "window"), [
    (64 * 64, 0.3), (128 * 32, 0.3), (12 * 12, 1.0), (16 * 9, 1.0), (4, 1.0), (128 * 128, 0.3), (768, 0.65),
])
def test_the_window_is_published_at_64_and_the_sweeps_at_12(cells, window):
    assert automatic_window(cells) == pytest.approx(window, abs=1e-9)


def test_at_the_published_size_the_end_is_the_published_one():
    assert automatic_end(64 * 64, schedule, 14.6) == schedule(0.3)


def test_four_times_the_cells_end_at_twice_the_noise():
    assert automatic_end(128 * 128, schedule, 14.6) == pytest.approx(2 * schedule(0.3))
    assert automatic_end(128 * 32, schedule, 14.6) == schedule(0.3)


def test_the_end_falls_with_fewer_cells_and_stays_within_the_schedule():
    ends = [automatic_end(side * side, schedule, 14.6) for side in (12, 16, 24, 32, 48, 64, 96, 128, 1024)]
    assert ends == sorted(ends) and ends[0] == 0 and ends[-1] == 14.6


def test_flow_schedules_are_not_shifted_a_second_time():
    assert automatic_end(128 * 128, lambda percent: 1 - percent, 1.0) == pytest.approx(0.7)


def test_a_widget_says_minus_one_for_automatic_and_keeps_every_number():
    assert given_window(-1.0) is None and [given_window(x) for x in (0.0, 0.3, 1.0)] == [0.0, 0.3, 1.0]

"""A grid shows every picture in its place, and reads what to show from plain texts."""

import pytest
import torch

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.evaluation.grid import LABEL_WIDTH, Block, read_numbers, read_steps, render_grid
from comfyui_personalize.core.evaluation.sheet import GAP, LINE, MARGIN, SEAM


def flat(rows: int, columns: int, side: int = 128) -> torch.Tensor:
    """(rows, columns, side, side, 3), each of a grey of its own."""
    greys = (torch.arange(rows * columns) + 1) / (rows * columns + 1)
    return greys.view(rows, columns, 1, 1, 1).expand(rows, columns, side, side, 3)


def test_every_picture_stands_in_its_row_and_column_of_its_block():
    pictures = [flat(2, 3), 1 - flat(2, 3)]
    sheet = render_grid([Block(f"prompt {n}", p) for n, p in enumerate(pictures)], ["a", "b"], ["1", "2", "3"])
    block = GAP + LINE + GAP + LINE + 2 * (128 + SEAM) + GAP
    assert sheet.shape == (1, 2 * block + 2 * MARGIN, 2 * MARGIN + LABEL_WIDTH + 3 * (128 + SEAM) - SEAM, 3)
    for number, of_prompt in enumerate(pictures):
        for row in range(2):
            for column in range(3):
                top = MARGIN + number * block + 2 * GAP + 2 * LINE + row * (128 + SEAM)
                left = MARGIN + LABEL_WIDTH + column * (128 + SEAM)
                tile = sheet[0, top:top + 128, left:left + 128]
                assert (tile - of_prompt[row, column]).abs().max() <= 1 / 255


def test_labels_and_headings_are_drawn_outside_of_the_pictures():
    with_labels, without = (render_grid([Block(heading, flat(1, 1))], [label], [label])
                            for heading, label in (("a dog", "step 5"), ("", "")))
    assert with_labels.shape[1] == without.shape[1] + LINE
    assert (with_labels[0, :, :MARGIN + LABEL_WIDTH] < 0.5).any()


def test_large_pictures_are_shown_smaller_and_small_ones_larger():
    assert render_grid([Block("", flat(1, 2, 640))], ["a"], ["1", "2"]).shape[2] == 2 * MARGIN + LABEL_WIDTH + 642
    large, small = (render_grid([Block("", flat(2, 1, side))], ["a", "b"], ["1"]).shape[1] for side in (320, 16))
    assert large - small == 2 * (320 - 128)


@pytest.mark.parametrize(("text", "numbers"), [("0.6, 0.8,1", [0.6, 0.8, 1.0]), (" -1  2 ", [-1.0, 2.0]),
                                               ("1, 1.0", [1.0])])
def test_numbers_are_read_in_their_order_and_once(text, numbers):
    assert read_numbers(text, "strengths", -10, 10) == numbers


@pytest.mark.parametrize("text", ["", ",", "a", "1;2", "11", "nan", "inf", "1, -10.5"])
def test_what_is_no_list_of_numbers_is_refused(text):
    with pytest.raises(InputError, match="strengths: got .*, expected numbers of -10 to 10, separated by commas"):
        read_numbers(text, "strengths", -10, 10)


@pytest.mark.parametrize(("text", "steps"), [("all", [50, 100]), (" ALL ", [50, 100]), ("100, 50, 100", [100, 50])])
def test_steps_are_all_that_were_kept_or_some_of_them(text, steps):
    assert read_steps(text, [50, 100]) == steps


@pytest.mark.parametrize("text", ["", "75", "50, 75", "50.0", "-50", "²", "9" * 5000])
def test_a_step_that_was_not_kept_is_refused_with_those_that_were(text):
    with pytest.raises(InputError, match="expected all, or steps that were kept: 50, 100"):
        read_steps(text, [50, 100])

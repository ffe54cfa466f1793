"""Raters' files to win rates: what is refused, and figures against scipy and by hand."""

from __future__ import annotations

import itertools
import math

import numpy
import pytest
from scipy.stats import bootstrap

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.evaluation import paired_comparison
from comfyui_personalize.core.evaluation.paired_comparison import (
    COLUMNS,
    PROMPT_FIDELITY,
    SUBJECT_FIDELITY,
    bootstrap_interval,
    compare,
    draw_indices,
    left_share,
    parse_answers,
    read_answers,
    results_table,
)
from comfyui_personalize.tools.paired_results import main

HEADER = ",".join(COLUMNS)


def line(rater="Ann", index=0, left="A", right="B", choice="left", question=SUBJECT_FIDELITY, **changed):
    """A line of a file."""
    winner = {"left": left, "right": right}.get(choice, "")
    cells = {"study": "s1", "rater": rater, "question": question, "prompt": "a dog, wet", "index": index, "left": left,
             "right": right, "choice": choice, "winner": winner, **changed}
    return ",".join(f'"{cells[column]}"' for column in COLUMNS)


def table(*lines):
    return "\n".join([HEADER, *lines]) + "\n"


def answers_of(wins, ties=0, question=SUBJECT_FIDELITY):
    """Answers in which rater i prefers A so often and B so often, with sides that alternate."""
    lines = []
    for number, (won, lost) in enumerate(wins):
        for index in range(won + lost + ties):
            winner = "A" if index < won else "B"
            sides = ("A", "B") if index % 2 else ("B", "A")
            choice = "cannot tell" if index >= won + lost else ("left", "right")[sides.index(winner)]
            lines.append(line(f"r{number}", index, *sides, choice, question))
    return parse_answers({"all.csv": table(*lines)})


def test_wins_losses_and_ties_are_counted_whichever_side_a_method_stood_on():
    (row,) = compare(answers_of([(3, 1), (2, 2)], ties=2))
    assert (row.first, row.second) == ("A", "B")
    assert (row.first_won, row.second_won, row.cannot_tell, row.raters) == (5, 3, 4, 2)
    assert row.win_rate == 5 / 8


def test_the_answer_interval_is_wilsons_and_the_test_the_exact_sign_test_without_ties():
    (row,) = compare(answers_of([(8, 2)], ties=5))
    centre, half = (8 + 1.96**2 / 2) / (10 + 1.96**2), 1.96 / (10 + 1.96**2) * math.sqrt(1.6 + 1.96**2 / 4)
    assert row.answer_interval == pytest.approx((centre - half, centre + half), abs=1e-4)
    assert row.p_value == pytest.approx(2 * (45 + 10 + 1) / 2**10)


def test_nothing_decided_gives_dashes():
    (row,) = compare(answers_of([(0, 0)], ties=3))
    assert math.isnan(row.win_rate) and math.isnan(row.p_value)
    assert row.cells()[-4:] == ("–",) * 4


def test_the_rater_interval_is_a_bootstrap_over_raters_as_scipys():
    wins = [(9, 1), (7, 3), (2, 8), (6, 4), (8, 2), (5, 5), (10, 0)]
    won, lost = numpy.array(wins).T
    theirs = bootstrap((won, lost), lambda a, b, axis: a.sum(axis) / (a + b).sum(axis), paired=True, vectorized=True,
                       method="percentile", n_resamples=20000, rng=numpy.random.default_rng(0)).confidence_interval
    assert bootstrap_interval(wins) == pytest.approx((theirs.low, theirs.high), abs=0.02)
    (row,) = compare(answers_of(wins))
    assert row.rater_interval == bootstrap_interval(wins)
    assert row.rater_interval[1] - row.rater_interval[0] > row.answer_interval[1] - row.answer_interval[0]


def test_four_raters_are_too_few_for_an_interval_over_raters():
    assert all(map(math.isnan, bootstrap_interval([(1, 2)] * 4)))
    assert bootstrap_interval([(1, 2)] * 5) == pytest.approx((1 / 3, 1 / 3))


def test_raters_are_drawn_by_park_and_millers_generator():
    """C++ names the ten thousandth number of minstd_rand."""
    state = 1
    for _ in range(10000):
        state = state * paired_comparison.MULTIPLIER % paired_comparison.MODULUS
    assert state == 399268537
    drawn = numpy.bincount(list(itertools.islice(draw_indices(5), 50000)), minlength=5)
    assert len(drawn) == 5 and abs(drawn - 10000).max() < 400


def test_questions_and_pairs_of_methods_are_kept_apart():
    rows = [line(left="A", right="C"), line(left="B", right="A"), line(left="A", right="C", question=PROMPT_FIDELITY)]
    found = [(row.question, row.first, row.second) for row in compare(parse_answers({"f": table(*rows)}))]
    assert found == [(SUBJECT_FIDELITY, "A", "B"), (SUBJECT_FIDELITY, "A", "C"), (PROMPT_FIDELITY, "A", "C")]


def test_a_preference_for_a_side_is_counted():
    rows = [line(index=0), line(index=1), line(index=2, choice="right"), line(index=3, choice="cannot tell")]
    assert left_share(parse_answers({"f": table(*rows)})) == (2, 3)


@pytest.mark.parametrize(("lines", "words"), [
    ([line(), line(question="beauty", index=1)], ("f.csv, line 3", "question 'beauty'", "subject fidelity")),
    ([line(choice="both")], ("line 2", "choice 'both'", "cannot tell")),
    ([line(index="one")], ("line 2", "index 'one'")),
    ([line(rater=" ")], ("line 2", "no rater")),
    ([line(right="A")], ("line 2", "both sides")),
    ([line(winner="B")], ("line 2", "winner 'B'", "expected 'A'")),
    ([line() + ",more"], ("line 2", "10 cells")),
    ([line(), line(prompt="two\nlines", index=1), line(choice="x", index=2)], ("line 5",)),
    ([line(), line(left="B", right="A")], ("line 3", "Ann's answer of f.csv, line 2 again", "two names")),
    ([line()[:-1]], ("line 2", "unexpected end")),
    ([], ("no answer",)),
])
def test_a_broken_line_is_named_with_its_number(lines, words):
    with pytest.raises(InputError) as error:
        parse_answers({"f.csv": table(*lines)})
    assert all(word in str(error.value) for word in words), str(error.value)


def test_files_that_are_none_are_refused(tmp_path):
    (tmp_path / "other.csv").write_text("name;age\n", encoding="utf-8")
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "picture.csv").write_bytes(b"\x89PNG\xff")
    for name, words in {"other.csv": "name;age, expected study, rater", "empty.csv": "got empty.csv: nothing",
                        "picture.csv": "no text in UTF-8", "missing.csv": "No such file"}.items():
        with pytest.raises(InputError, match=words):
            read_answers([tmp_path / name])
    with pytest.raises(InputError, match="no file"):
        read_answers([])


def test_files_of_one_name_in_two_folders_are_two_files(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.csv").write_text(table(line()), encoding="utf-8")
    with pytest.raises(InputError, match="again"):
        read_answers([tmp_path / "one" / "a.csv", tmp_path / "two" / "a.csv"])


def test_a_spreadsheets_byte_order_mark_and_line_ends_are_read(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + table(line(), line(index=1)).replace("\n", "\r\n").encode())
    assert len(read_answers([tmp_path / "a.csv"])) == 2


def test_halves_are_rounded_as_javascript_does():
    assert paired_comparison.percent(0.0625) == "6.3 %"
    assert paired_comparison.p_text(0.0625) == "0.063" and paired_comparison.p_text(0.0004) == "< 0.001"


def test_the_command_prints_the_table_and_says_what_is_wrong(tmp_path, capsys):
    files = []
    for rater in ("Ann", "Ben"):
        files.append(str(tmp_path / f"{rater}.csv"))
        (tmp_path / f"{rater}.csv").write_text(table(*(line(rater, index) for index in range(4))), encoding="utf-8")
    assert main(files) == 0
    printed = capsys.readouterr().out
    assert printed.strip() == results_table(read_answers(files))
    assert "| subject fidelity | A | B | 8 | 0 | 0 | 2 | 100.0 % | 67.6 to 100.0 % | – | 0.008 |" in printed
    assert "left was chosen in 8 of 8" in printed
    assert main([str(tmp_path / "missing.csv")]) == 1
    assert "expected a CSV file" in capsys.readouterr().err

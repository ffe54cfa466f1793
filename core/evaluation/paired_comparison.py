"""Which of two methods do people prefer? win rate = wins / (wins + losses), answer by answer, from raters' CSV files.

The files come from the page that `paired_page` writes. Answers 'cannot tell' are counted and shown, and left out of
the rate, as the sign test wants it. Two intervals of 95 %: Wilson's, which takes every answer for an independent one,
and a bootstrap over the raters, which does not and is given from `FEWEST_RATERS` raters on. The page itself shows the
same figures (core/evaluation/paired_page_template/statistics.js); a test holds the two together.

Source: Jin et al., ECCV 2024, user study (paired tests, two questions). Intervals and test are *ours*.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from itertools import islice
from pathlib import Path

import numpy
from scipy.stats import binomtest

from ..errors import InputError, require

COLUMNS = ("study", "rater", "question", "prompt", "index", "left", "right", "choice", "winner")
SUBJECT_FIDELITY, PROMPT_FIDELITY = "subject fidelity", "prompt fidelity"
QUESTIONS = {
    SUBJECT_FIDELITY: "Which picture shows the same subject as the photos?",
    PROMPT_FIDELITY: "Which picture agrees better with the text?",
}
LEFT, RIGHT, CANNOT_TELL = "left", "right", "cannot tell"
CHOICES = (LEFT, RIGHT, CANNOT_TELL)
CONFIDENCE = 0.95
FEWEST_RATERS = 5
"""Raters below which a bootstrap over them says too little for an interval."""
RESAMPLES = 2000
MULTIPLIER, MODULUS = 48271, 2**31 - 1
"""Park and Miller's generator: a browser's doubles compute it exactly, so that page and Python draw the same raters."""
TITLES = ("question", "first", "second", "first won", "second won", "cannot tell", "raters", "win rate of first",
          "95 % (answers)", "95 % (raters)", "p (sign test)")
Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One rater's answer to one question about one pair.

    Attributes:
        study: names the page that was rated.
        index: which of the prompts' pictures, from 0.
        left, right: the methods, as they stood.
    """

    study: str
    rater: str
    question: str
    prompt: str
    index: int
    left: str
    right: str
    choice: str

    @property
    def winner(self) -> str:
        """The preferred method; empty for 'cannot tell'."""
        return {LEFT: self.left, RIGHT: self.right}.get(self.choice, "")

    @property
    def pair(self) -> tuple[str, str]:
        """The two methods in the order of their names, whichever stood left."""
        return (self.left, self.right) if self.left < self.right else (self.right, self.left)

    @property
    def identity(self) -> tuple[object, ...]:
        """What can be answered once only."""
        return self.study, self.rater, self.question, self.index, self.pair


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What all raters together say of two methods, on one question.

    Attributes:
        win_rate: first's wins among the answers that decide; NaN where none does.
        answer_interval: Wilson's.
        rater_interval: the bootstrap's over raters; NaN for fewer than `FEWEST_RATERS`.
        p_value: two-sided sign test of 'both are preferred equally often', without the ties.
    """

    question: str
    first: str
    second: str
    first_won: int
    second_won: int
    cannot_tell: int
    raters: int
    win_rate: float
    answer_interval: Interval
    rater_interval: Interval
    p_value: float

    def cells(self) -> tuple[str, ...]:
        """The row of `TITLES` as the page shows it, too."""
        counts = (self.first_won, self.second_won, self.cannot_tell, self.raters)
        return (self.question, self.first, self.second, *map(str, counts), percent(self.win_rate),
                interval_text(self.answer_interval), interval_text(self.rater_interval), p_text(self.p_value))


def read_answers(files: Iterable[str | Path]) -> list[Answer]:
    """The answers of all files, each of them once.

    Raises:
        InputError: no file, one that cannot be read, another table, a broken line, or an answer that is there twice.
    """
    texts = {str(file): _read(Path(file)) for file in files}
    require(bool(texts), "files", "no file", "one or more CSV files", "Give the files that the raters downloaded.")
    return parse_answers(texts)


def parse_answers(texts: Mapping[str, str]) -> list[Answer]:
    """As `read_answers`, from files' contents by name."""
    seen: dict[tuple[object, ...], str] = {}
    answers = []
    for name, text in texts.items():
        for place, answer in _answers_of(Path(name).name, text):
            before = seen.get(answer.identity)
            require(before is None, "files", f"{place}: {answer.rater}'s answer of {before} again",
                    "every answer once", "Give each rater's last file only; two raters need two names.")
            seen[answer.identity] = place
            answers.append(answer)
    require(bool(answers), "files", "no answer", "files with answers", "Give the files that the raters downloaded.")
    return answers


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as reason:
        raise InputError("files", f"{path.name}: {getattr(reason, 'strerror', None) or 'no text in UTF-8'}",
                         "a CSV file that can be read", "Give the file that the rater downloaded.") from reason


def _answers_of(name: str, text: str) -> Iterator[tuple[str, Answer]]:
    """Where it stands, and each answer of a file."""
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(rows, [])
        require(tuple(header) == COLUMNS, "columns", f"{name}: {', '.join(header) or 'nothing'}", ", ".join(COLUMNS),
                "Give the file as the page wrote it; a spreadsheet must save it as CSV with commas.")
        for row in rows:
            if row:
                place = f"{name}, line {rows.line_num}"
                yield place, _answer(place, row)
    except csv.Error as reason:
        raise InputError("files", f"{name}, line {rows.line_num}: {reason}", "a CSV file as the page wrote it",
                         "Ask the rater to download it again.") from reason


def _answer(place: str, row: Sequence[str]) -> Answer:
    def check(condition: bool, got: str, expected: str) -> None:
        require(condition, "files", f"{place}: {got}", expected, "Ask the rater to download the file again.")

    check(len(row) == len(COLUMNS), f"{len(row)} cells", f"{len(COLUMNS)} cells")
    cells = {column: cell.strip() for column, cell in zip(COLUMNS, row, strict=True)}
    for column in ("study", "rater", "left", "right"):
        check(bool(cells[column]), f"no {column}", f"a {column}")
    check(cells["question"] in QUESTIONS, f"question {cells['question']!r}", f"one of {', '.join(QUESTIONS)}")
    check(cells["choice"] in CHOICES, f"choice {cells['choice']!r}", f"one of {', '.join(CHOICES)}")
    check(cells["left"] != cells["right"], f"{cells['left']!r} on both sides", "two methods")
    check(cells["index"].isascii() and cells["index"].isdigit(), f"index {cells['index']!r}", "0 or a higher number")
    winner, index = cells.pop("winner"), int(cells.pop("index"))
    answer = Answer(**cells, index=index)
    check(winner == answer.winner, f"winner {winner!r} for choice {answer.choice!r}", repr(answer.winner))
    return answer


def compare(answers: Sequence[Answer]) -> list[Comparison]:
    """One row per question and pair of methods, in the order of the questions and the methods' names."""
    groups: dict[tuple[str, tuple[str, str]], list[Answer]] = {}
    for answer in answers:
        groups.setdefault((answer.question, answer.pair), []).append(answer)
    questions = list(QUESTIONS)
    order = sorted(groups, key=lambda group: (questions.index(group[0]), group[1]))
    return [_compare(question, pair, groups[question, pair]) for question, pair in order]


def _compare(question: str, pair: tuple[str, str], answers: Sequence[Answer]) -> Comparison:
    first, second = pair
    won, lost = (sum(answer.winner == method for answer in answers) for method in pair)
    test = binomtest(won, won + lost) if won + lost else None
    wilson = test.proportion_ci(CONFIDENCE, method="wilson") if test else (math.nan, math.nan)
    return Comparison(
        question=question, first=first, second=second, first_won=won, second_won=lost,
        cannot_tell=len(answers) - won - lost, raters=len({answer.rater for answer in answers}),
        win_rate=won / (won + lost) if test else math.nan, answer_interval=(float(wilson[0]), float(wilson[1])),
        rater_interval=bootstrap_interval(wins_by_rater(answers, pair)),
        p_value=float(test.pvalue) if test else math.nan)


def wins_by_rater(answers: Iterable[Answer], pair: tuple[str, str]) -> list[tuple[int, int]]:
    """(wins of the first, wins of the second) of every rater who decided at least once, by the raters' names."""
    counts: dict[str, list[int]] = {}
    for answer in answers:
        if answer.winner:
            counts.setdefault(answer.rater, [0, 0])[pair.index(answer.winner)] += 1
    return [(won, lost) for _, (won, lost) in sorted(counts.items())]


def bootstrap_interval(wins: Sequence[tuple[int, int]]) -> Interval:
    """Percentile interval of Σ wins / Σ (wins + losses) over raters drawn with replacement, each with all answers."""
    if len(wins) < FEWEST_RATERS:
        return math.nan, math.nan
    drawn = list(islice(draw_indices(len(wins)), RESAMPLES * len(wins)))
    sums = numpy.array(wins)[numpy.array(drawn).reshape(RESAMPLES, len(wins))].sum(axis=1)  # (resamples, 2)
    low, high = numpy.quantile(sums[:, 0] / sums.sum(axis=1), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def draw_indices(count: int, state: int = 1) -> Iterator[int]:
    """Numbers below `count` without end, by Park and Miller's generator (Comm. ACM 31:1192, 1988; this multiplier
    36:105, 1993)."""
    while True:
        state = state * MULTIPLIER % MODULUS
        yield int((state - 1) / (MODULUS - 1) * count)


def left_share(answers: Iterable[Answer]) -> tuple[int, int]:
    """How often the left picture won, among the answers that decide: far from half, the raters favoured a side."""
    choices = [answer.choice for answer in answers]
    return choices.count(LEFT), choices.count(LEFT) + choices.count(RIGHT)


def results_table(answers: Sequence[Answer]) -> str:
    """Everything as a Markdown table, and how it is to be read."""
    rows = [TITLES, ("---",) * len(TITLES), *(row.cells() for row in compare(answers))]
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
    left, decided = left_share(answers)
    return (f"{table}\n\n{len(answers)} answers of {len({answer.rater for answer in answers})} raters; left was chosen "
            f"in {left} of {decided} that decide.\nWin rates leave 'cannot tell' out. The interval over answers is "
            f"Wilson's; the one over raters is a bootstrap, from {FEWEST_RATERS} deciding raters on.")


def percent(share: float) -> str:
    """62.5 %; a dash for NaN."""
    return "–" if math.isnan(share) else f"{_rounded(100 * share, '0.1')} %"


def interval_text(interval: Interval) -> str:
    """40.8 to 80.1 %; a dash for NaN."""
    low, high = interval
    return "–" if math.isnan(low) else f"{_rounded(100 * low, '0.1')} to {percent(high)}"


def p_text(p_value: float) -> str:
    """Three decimals, or '< 0.001'; a dash for NaN."""
    if math.isnan(p_value):
        return "–"
    return "< 0.001" if p_value < 0.001 else _rounded(p_value, "0.001")


def _rounded(value: float, unit: str) -> str:
    """As JavaScript's toFixed: the exact binary value, halves away from zero."""
    return str(Decimal(value).quantize(Decimal(unit), ROUND_HALF_UP))

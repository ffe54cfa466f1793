"""Raters in a real browser: what they see, what they download, and the same figures on the page and in Python."""

from __future__ import annotations

import csv
import itertools
import json
import random
import re
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from comfyui_personalize.core.evaluation.paired_comparison import (
    COLUMNS,
    QUESTIONS,
    compare,
    parse_answers,
    read_answers,
)
from comfyui_personalize.core.evaluation.paired_page import write_page
from comfyui_personalize.tools.install_comfyui import ROOT

PROMPTS = ['a "dog", wet', "a dog in the snow", "a dog on the beach, at night"]
METHODS = ("Plain sampling", "With DCI", "Base, untrained")
PHONE, DESK, LYING = ({"width": width, "height": height} for width, height in ((390, 844), (1280, 800), (844, 390)))


def blurred(seed: int, count: int) -> torch.Tensor:
    """Pictures that can be told apart."""
    noise = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return functional.interpolate(noise, size=(96, 96), mode="bicubic", antialias=True).clamp(0, 1)


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    """A page of three methods, three prompts and two sheets."""
    methods = {name: blurred(number, len(PROMPTS)) for number, name in enumerate(METHODS)}
    return write_page(methods, PROMPTS, list(blurred(9, 4)), tmp_path_factory.mktemp("page") / "page.html", "My <dog>",
                      seed=3, pairs_per_sheet=5)


@pytest.fixture
def page(browser, path):
    """The page, opened from the disk; whatever it asks of a network or complains of is collected."""
    page = browser.new_page()
    page.set_viewport_size(DESK)
    page.wrong = []
    page.on("request", lambda request: None if request.url.startswith(("file:", "data:", "blob:"))
            else page.wrong.append(request.url))
    page.on("console", lambda message: page.wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.goto(path.as_uri())
    page.evaluate("localStorage.clear()")
    page.reload()
    yield page
    assert page.wrong == []
    page.close()


def begin(page, rater: str, sheet: int = 0) -> None:
    page.fill("#rater", rater)
    page.select_option("#sheet", str(sheet))
    page.get_by_role("button", name="Begin").click()


def seen(page) -> tuple[str, str, str]:
    """Question, left and right picture."""
    return tuple(page.evaluate("[document.getElementById('question').textContent, document.getElementById('left').src,"
                               " document.getElementById('right').src]"))


def answer_all(page, keys) -> list[tuple[str, str, str]]:
    """Press a key per question until the end; returns what was seen."""
    shown = []
    for key in keys:
        if not page.is_visible("#rate"):
            break
        shown.append(seen(page))
        page.keyboard.press(key)
    return shown


def downloaded(page, folder: Path) -> Path:
    with page.expect_download() as download:
        page.get_by_role("button", name="Download answers").click()
    place = folder / download.value.suggested_filename
    download.value.save_as(place)
    return place


def shown_rows(page) -> list[list[str]]:
    """The cells of the page's tables, each behind its question's text."""
    return page.evaluate("""[...document.querySelectorAll('#tables h2')].flatMap(title => {
        const rows = document.evaluate('following-sibling::div[@class="scroll"][1]', title, null, 9).singleNodeValue;
        return [...rows.querySelectorAll('tbody tr')].map(row =>
            [title.textContent, ...[...row.cells].map(cell => cell.textContent)]);
    })""")


def expected_rows(answers) -> list[list[str]]:
    return [[QUESTIONS[row.question], *row.cells()[1:]] for row in compare(answers)]


def give(page, files) -> None:
    page.goto(page.url.partition("#")[0] + "#results")
    page.set_input_files("#files", [str(file) for file in files])
    # Not wait_for_function: it evaluates texts, which the page's content policy forbids.
    page.locator("#tables > *, #results-problem:not(:empty)").first.wait_for(state="attached")


def test_raters_click_through_and_python_reads_what_they_download(page, tmp_path, screenshots):
    files = []
    for sheet, rater in enumerate(("Ann", "Björn-2")):
        begin(page, rater, sheet)
        page.screenshot(path=screenshots / f"question_{sheet}.png")
        shown = answer_all(page, itertools.cycle(["ArrowLeft", "ArrowRight", "ArrowDown", "ArrowLeft"]))
        assert len(shown) == 2 * (4, 5)[sheet] and page.inner_text("#end-title") == f"Thank you, {rater}"
        files.append(downloaded(page, tmp_path))
        page.get_by_role("button", name="Another sheet or name").click()
    answers = read_answers(files)
    assert len(answers) == 18 and {answer.rater for answer in answers} == {"Ann", "Björn-2"}
    assert {answer.prompt for answer in answers} == set(PROMPTS)
    assert {frozenset(answer.pair) for answer in answers} == {frozenset(p) for p in itertools.combinations(METHODS, 2)}
    give(page, files)
    assert shown_rows(page) == expected_rows(answers)
    assert "18 answers of 2 raters" in page.inner_text("#summary")


def test_a_choice_is_credited_to_the_method_that_stood_there(page, path, tmp_path):
    key = json.loads(page.evaluate("new TextDecoder().decode(Uint8Array.from(atob(STUDY.key), c => c.charCodeAt(0)))"))
    pictures = page.evaluate("STUDY.pictures")
    begin(page, "Ann")
    shown = answer_all(page, itertools.cycle(["ArrowLeft", "ArrowRight"]))
    with open(downloaded(page, tmp_path), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row, (question, left, right), choice in zip(rows, shown, itertools.cycle(("left", "right")), strict=False):
        assert QUESTIONS[row["question"]] == question and row["choice"] == choice
        assert (row["left"], row["right"]) == (key[pictures.index(left)], key[pictures.index(right)])
        assert row["winner"] == row[choice]


def test_order_and_sides_are_the_raters_own(page):
    def of(rater):
        begin(page, rater)
        shown = answer_all(page, itertools.repeat("ArrowDown"))
        page.evaluate("localStorage.clear()")
        page.get_by_role("button", name="Another sheet or name").click()
        return shown

    first, second = of("Ann"), of("Ben")
    assert of("Ann") == first != second
    assert {(question, *sorted(pair)) for question, *pair in first} == {(q, *sorted(p)) for q, *p in second}
    assert {tuple(pair) for _, *pair in first} != {tuple(pair) for _, *pair in second}
    assert [shown[1:] for shown in first[0::2]] == [shown[1:] for shown in first[1::2]]


def test_nothing_that_a_rater_sees_or_inspects_names_a_method(page):
    begin(page, "Ann")
    while page.is_visible("#rate"):
        assert not [name for name in METHODS if name in page.content()]
        page.keyboard.press("ArrowDown")
    kept = page.evaluate("JSON.stringify({...localStorage})")
    assert not [name for name in METHODS if name in page.content() + kept]


def test_photos_are_shown_for_the_subject_and_the_text_for_the_prompt(page):
    begin(page, "Ann")
    assert page.locator("#photos img").count() == 4 and page.is_visible("#photos") and page.is_hidden("#prompt")
    page.keyboard.press("ArrowLeft")
    assert page.is_hidden("#photos") and page.inner_text("#prompt") in PROMPTS


def test_buttons_pictures_and_the_way_back_work_and_an_answer_can_be_changed(page, tmp_path):
    begin(page, "Ann")
    page.get_by_role("button", name="Cannot tell").click()
    page.locator(".picture").first.click()
    page.get_by_role("button", name="Right", exact=False).last.click()
    assert page.inner_text("#position").startswith("4 of")
    for _ in range(2):
        page.get_by_role("button", name="Back").first.click()
    assert page.locator(".answers .chosen").inner_text().endswith("Left")
    page.keyboard.press("Backspace")
    assert page.inner_text("#position").startswith("1 of")
    page.keyboard.press("ArrowRight")
    page.get_by_role("button", name="Save and stop").click()
    assert page.inner_text("#end-title") == "Saved"
    (answers,) = [read_answers([downloaded(page, tmp_path)])]
    assert [answer.choice for answer in answers] == ["right", "left", "right"]


def test_progress_survives_closing_the_page(page):
    begin(page, "Ann")
    for key in ("ArrowLeft", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    before = seen(page)
    page.reload()
    begin(page, "ann ")
    assert page.inner_text("#position").startswith("4 of") and seen(page) == before
    page.reload()
    begin(page, "Ben")
    assert page.inner_text("#position").startswith("1 of")


def test_it_works_where_the_browser_keeps_nothing(page):
    page.evaluate("Object.defineProperty(window, 'localStorage', { get() { throw new Error('refused'); } })")
    begin(page, "Ann")
    answer_all(page, itertools.repeat("ArrowLeft", 3))
    page.get_by_role("button", name="Save and stop").click()
    page.get_by_role("button", name="Another sheet or name").click()
    begin(page, "Ann")
    assert page.inner_text("#position").startswith("4 of")


def test_a_name_that_a_spreadsheet_would_run_is_refused(page):
    begin(page, "=cmd()")
    assert page.is_visible("#start") and "begins with a letter" in page.inner_text("#begin-problem")


def rating(rater: str, prompts: int, rng: random.Random) -> str:
    """A file of random answers with a rater's own taste."""
    taste = {name: rng.random() for name in METHODS}
    lines = [",".join(COLUMNS)]
    for question, index, pair in itertools.product(QUESTIONS, range(prompts), itertools.combinations(METHODS, 2)):
        left, right = rng.sample(pair, 2)
        weights = (taste[left], taste[right], 0.3)
        choice = rng.choices(("left", "right", "cannot tell"), weights)[0]
        winner = {"left": left, "right": right}.get(choice, "")
        lines.append(f's,{rater},{question},"a ""{index}"", dog",{index},"{left}","{right}",{choice},"{winner}"')
    return "\r\n".join(lines) + "\r\n"


@pytest.mark.parametrize(("raters", "prompts"), [(1, 1), (4, 3), (5, 1), (9, 12), (20, 25)])
def test_the_pages_figures_are_pythons(page, tmp_path, screenshots, raters, prompts):
    rng = random.Random(raters)
    texts = {f"r{number}.csv": rating(f"r{number}", prompts, rng) for number in range(raters)}
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    give(page, [tmp_path / name for name in texts])
    page.screenshot(path=screenshots / f"results_{raters}.png", full_page=True)
    rows = expected_rows(parse_answers(texts))
    assert shown_rows(page) == rows and len(rows) == 6
    assert (raters >= 5) == any("–" not in row[9] for row in rows)


@pytest.mark.parametrize("broken", [
    "name;age\n", ",".join(COLUMNS) + "\n", ",".join(COLUMNS) + "\ns,Ann,beauty,p,0,A,B,left,A\n",
    ",".join(COLUMNS) + "\ns,Ann,subject fidelity,p,0,A,B,left,B\n", ",".join(COLUMNS) + '\ns,"Ann\n',
    ",".join(COLUMNS) + "\n" + "s,Ann,subject fidelity,p,0,A,B,left,A\n" * 2])
def test_a_file_that_python_refuses_is_refused_by_the_page_with_the_same_line(page, tmp_path, broken):
    (tmp_path / "f.csv").write_text(broken, encoding="utf-8")
    with pytest.raises(Exception) as error:
        read_answers([tmp_path / "f.csv"])
    give(page, [tmp_path / "f.csv"])
    problem = page.inner_text("#results-problem")
    assert re.findall(r"line \d+", problem)[:1] == re.findall(r"line \d+", str(error.value))[:1]
    assert (problem.startswith("f.csv") or problem.startswith("There is no answer")) and shown_rows(page) == []


@pytest.mark.parametrize(("name", "size"), [("phone", PHONE), ("desk", DESK), ("lying", LYING)])
def test_everything_of_a_question_is_in_sight(page, screenshots, name, size):
    page.set_viewport_size(size)
    page.screenshot(path=screenshots / f"start_{name}.png")
    begin(page, "Ann")
    for number in range(2):
        page.screenshot(path=screenshots / f"question_{name}_{number}.png")
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        for part in ("#question", "#left", "#right", ".answers"):
            box = page.locator(part).bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= size["width"] and box["height"] > 30, part
            assert box["y"] >= 0 and (name == "lying" or box["y"] + box["height"] <= size["height"]), part
        page.keyboard.press("ArrowLeft")


def test_the_template_is_no_extension_script_of_the_editor():
    """ComfyUI's frontend runs every script below web/."""
    scripts = {found.read_text(encoding="utf-8") for found in (ROOT / "web").rglob("*.js")}
    template = [*(ROOT / "core" / "evaluation" / "paired_page_template").glob("*.js")]
    assert len(template) == 3 and not scripts & {found.read_text(encoding="utf-8") for found in template}

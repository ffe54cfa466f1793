"""The demo's contact sheet, and how it asks one trained subject for one picture after the other."""

from __future__ import annotations

import pytest
from PIL import Image

from comfyui_personalize.tools import demo

RED, BLUE = (200, 30, 30), (30, 30, 200)


def tile(colour, size=(96, 96)):
    return Image.new("RGB", size, colour)


def test_rows_stand_below_each_other_with_as_many_pictures_as_fit():
    sheet = demo.contact_sheet([demo.Row("one", [tile(RED)] * 6), demo.Row("two", [tile(BLUE, (192, 96))] * 3)])
    assert sheet.width == demo.GAP + 4 * (demo.TILE + demo.GAP)
    middles = [demo.GAP + demo.LABEL + demo.TILE // 2 + k * (demo.LABEL + demo.TILE + demo.GAP) for k in (0, 1)]
    counts = [sum(sheet.getpixel((x, y)) == colour for x in range(sheet.width))
              for y, colour in zip(middles, (RED, BLUE), strict=True)]
    assert counts == [4 * demo.TILE, 4 * demo.TILE]


@pytest.mark.parametrize(("is_step", "discs"), [(True, [1, 2]), (False, [1])])
def test_what_is_compared_with_the_row_above_has_no_number_of_its_own(is_step, discs):
    sheet = demo.contact_sheet([demo.Row("a", [tile(RED)]), demo.Row("b", [tile(RED)], is_step=is_step)])
    rows = [demo.GAP + demo.LABEL // 2 + k * (demo.LABEL + demo.TILE + demo.GAP) for k in (0, 1)]
    marked = [k + 1 for k, y in enumerate(rows) if sheet.convert("RGB").getpixel((demo.GAP + 4, y)) != (255, 255, 255)]
    assert marked == discs


def test_captions_make_room_below_their_pictures_alone():
    bare, told = ([demo.Row("a", [tile(RED)], captions)] for captions in ((), ("in the snow",)))
    assert demo.contact_sheet(told).height - demo.contact_sheet(bare).height == demo.CAPTION


@pytest.mark.parametrize("name", [demo.TRAIN, demo.COMPARE])
def test_another_prompt_changes_the_workflow_in_that_alone(name):
    graph = demo.load_graph(name)
    changed = demo.with_prompt(graph, "a {V} dog at night")
    assert demo.prompt_of(changed) == "a {V} dog at night" != demo.prompt_of(graph)
    assert demo.with_prompt(changed, demo.prompt_of(graph)) == graph


def test_no_placeholder_is_left_in_what_the_sheet_says():
    assert demo.in_words("a pencil drawing of a {V} dog") == "a pencil drawing of your dog"
    shown = (*demo.EDITS, demo.prompt_of(demo.load_graph(demo.COMPARE)))
    assert not any("{" in demo.in_words(prompt) for prompt in shown)


def test_the_pictures_that_the_sheet_shows_are_saved_by_the_workflows():
    for name, titles in ((demo.TRAIN, {"Class images", "Your subject"}), (demo.COMPARE, {"Plain", "With DCI"}),
                         (demo.TOGETHER, {"Two halves"})):
        assert titles <= {node["_meta"]["title"] for node in demo.load_graph(name).values()}

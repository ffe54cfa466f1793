"""The gallery's templates as files: they are readable when the editor fits them into view, and their notes say what the
graph's own widgets, the recipes and the presets say."""

from __future__ import annotations

import json
import re

import pytest

from comfyui_personalize.core.training.presets import PRESETS
from comfyui_personalize.core.training.recipe_files import FOLDER as RECIPES
from comfyui_personalize.tools.graphs import NOTE, Graph, api_form, note_height, ui_form
from comfyui_personalize.tools.install_comfyui import ROOT
from comfyui_personalize.tools.layout import Size, columns_of, place
from comfyui_personalize.tools.screenshots import PAGE, written_page
from comfyui_personalize.tools.write_workflows import parse

FOLDER = ROOT / "workflows"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
OF_A_METHOD = {"05": "ico", "06": "textual_inversion", "07": "one_shot", "08": "custom_diffusion", "09": "dreambooth"}
LINE = re.compile(r"^- \*\*(Here: the pocket model|Stable Diffusion 1\.5|SDXL)\*\*: (.+)$", re.MULTILINE)
WIDGETS = {"resolution": "PersonalizeTrainer", "learning_rate": "PersonalizeTrainer", "batch": "PersonalizeTrainer",
           "steps": "PersonalizeTrainer", "targets": "PersonalizeTrainingOptions",
           "text_encoder_rate": "PersonalizeTrainingOptions"}


def test_only_numbers_that_exist_are_run_and_alone_the_flag_means_those_whose_models_are_here():
    assert parse([]) == frozenset() and parse(["--run", "01", "18"]) == {"01", "18"}
    assert {"01", "overfitted"} <= parse(["--run"]) and "18" not in parse(["--run"])
    with pytest.raises(SystemExit):
        parse(["--run", "1"])


@pytest.mark.parametrize("form", [api_form, ui_form])
def test_a_graph_with_a_misspelt_input_is_not_written(form):
    graph = Graph("any")
    graph.add(0, "KSampler", {"sed": 7})
    info = {"KSampler": {"display_name": "KSampler", "input": {"required": {"seed": ["INT", {"default": 0}]}}}}
    with pytest.raises(KeyError, match=r"unknown inputs \['sed'\]"):
        form(graph, info)


def read(*parts: str):
    return json.loads(FOLDER.joinpath(*parts).read_text(encoding="utf-8"))


def notes(name: str) -> str:
    return "\n\n".join(node["widgets_values"][0] for node in read(f"{name}.json")["nodes"] if node["type"] == NOTE)


def settings(name: str) -> dict[str, dict[str, str]]:
    """By family, what the note says of each setting."""
    return {family: dict(part.split(" ", 1) for part in text.split(", ")) for family, text in LINE.findall(notes(name))}


def recipe(name: str):
    return json.loads((RECIPES / f"{name}.json").read_text(encoding="utf-8"))["values"]


def value(entry):
    return entry["value"] if isinstance(entry, dict) else entry


def number(text: str):
    try:
        return float(text)
    except ValueError:
        return text


NUMBERED = [name for name in NAMES if not name.startswith(("00", "20"))]
"""Those that begin with the pocket model: 00 says recipes, and 20 is for edit models."""


@pytest.mark.parametrize("name", NUMBERED)
def test_a_note_says_what_the_graphs_own_widgets_say(name):
    graph = read("api", f"{name}.json").values()
    said = settings(name)["Here: the pocket model"]
    assert {"size", "cfg"} <= said.keys()
    for key, text in said.items():
        kinds = (WIDGETS[key],) if key in WIDGETS else ()
        key = {"size": "height"}.get(key, key)
        values = [node["inputs"][each] for node in graph for each in (key, "size" if key == "height" else key)
                  if each in node["inputs"] and (not kinds or node["class_type"] in kinds)]
        assert number(text) in values, (key, values)


@pytest.mark.parametrize("name", NUMBERED)
@pytest.mark.parametrize(("family", "file"), [("Stable Diffusion 1.5", "sd15"), ("SDXL", "sdxl")])
def test_a_note_says_what_the_familys_recipe_and_the_methods_preset_say(name, family, file):
    said, values = settings(name)[family], {key: value(entry) for key, entry in recipe(file).items()}
    photos = 1 if name[:2] in ("02", "07", "10") else 4
    expected = {**{key: values[key] for key in ("resolution", "learning_rate", "batch", "targets", "size", "cfg")},
                "steps": values["steps_per_photo"] * photos / values["batch"], "text_encoder_rate": 0}
    if method := OF_A_METHOD.get(name[:2]):
        preset = PRESETS[method]
        assert preset.needs in notes(name)
        expected |= {"learning_rate": preset.learning_rate, "steps": preset.steps,
                     "targets": preset.options.adapter.targets}
    assert {key: number(text) for key, text in said.items()} == {key: expected[key] for key in said}
    assert said.keys() == settings(name)["Here: the pocket model"].keys()


@pytest.mark.parametrize("name", NAMES)
def test_notes_are_paragraphs_and_lists_no_tables(name):
    assert "|" not in notes(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_template_has_numbered_groups_around_all_nodes_but_notes(name):
    ui = read(f"{name}.json")
    assert [group["title"].split()[0] for group in ui["groups"]] == [
        str(number) for number in range(1, len(ui["groups"]) + 1)]
    for node in ui["nodes"]:
        inside = [group for group in ui["groups"] if holds(group["bounding"], (*node["pos"], *node["size"]))]
        assert len(inside) == 1 or node["type"] == NOTE and not inside


def holds(outer, inner) -> bool:
    return all(outer[axis] <= inner[axis] and inner[axis] + inner[axis + 2] <= outer[axis] + outer[axis + 2]
               for axis in (0, 1))


def test_the_first_template_of_training_draws_while_it_trains():
    graph = read("api", f"{NUMBERED[0]}.json")
    trainer, = (node for node in graph.values() if node["class_type"] == "PersonalizeTrainer")
    assert graph[trainer["inputs"]["preview"][0]]["class_type"] == "PersonalizeTrainingPreview"


def boxes(*heights: int):
    return [{"size": [100, height]} for height in heights]


def test_columns_are_few_and_alike_in_height():
    assert [len(column) for column in columns_of(boxes(100, 100, 100, 100), 460)] == [2, 2]
    assert [len(column) for column in columns_of(boxes(100, 100, 100), 500)] == [3]


def test_placed_nodes_stand_apart_and_the_zoom_is_that_of_the_screen():
    group = boxes(200, 300, 250, 100)
    size = place([group, boxes(100)])
    assert size.zoom == Size(*size).zoom == 0.75 * min(1900 / (size.width + 20), 1050 / (size.height + 20))
    for one in group:
        for other in group:
            assert one is other or one["pos"][0] != other["pos"][0] or abs(one["pos"][1] - other["pos"][1]) > 100


def test_a_note_is_higher_for_more_text():
    assert note_height("a") < note_height("a" * 200) < note_height("a\n" * 20)


@pytest.mark.parametrize("name", NAMES)
def test_text_is_readable_where_the_editor_opens_a_template(name):
    """From 8 / 14 on the classic canvas draws text; tests/browser asks the editor itself."""
    assert read(f"{name}.json")["extra"]["ds"]["scale"] >= (0.6 if name in NAMES[:6] else 8 / 14)


def test_the_page_of_templates_shows_each_with_a_small_picture():
    assert PAGE.read_text(encoding="utf-8") == written_page(), "run `make screenshots`"
    pictures = {path.stem: path.stat().st_size for path in (PAGE.parent / "templates").iterdir()}
    assert pictures.keys() == {name.split()[0] for name in NAMES}
    assert max(pictures.values()) <= 60_000 and sum(pictures.values()) <= 1_000_000


@pytest.mark.parametrize("name", [name for name in NAMES if name[:2] in ("06", "07", "08")])
def test_a_prompt_says_the_word_that_was_learned(name):
    """Where token vectors learn, the rare word that they began with is still what it was."""
    graph = read("api", f"{name}.json")
    trainer, = (key for key, node in graph.items() if node["class_type"] == "PersonalizeTrainer")
    assert "token_vectors" in graph[trainer]["inputs"]
    said = [node["inputs"]["replace"] for node in graph.values() if node["class_type"] == "StringReplace"]
    assert said == [[trainer, 7]]


def test_the_templates_in_which_token_vectors_learn_are_those():
    learning = [name for name in NAMES if any("token_vectors" in node["inputs"]
                                              for node in read("api", f"{name}.json").values())]
    assert [name[:2] for name in learning] == ["06", "07", "08"]

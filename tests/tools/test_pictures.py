"""`make pictures`: other subjects in the workflows' own graphs, resumable cells, measures of known value, the page."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from comfyui_personalize.pocket.judge import HEADS, Judge
from comfyui_personalize.pocket.learner import Learner
from comfyui_personalize.pocket.places import CONTEXTS
from comfyui_personalize.pocket.scenes import possible_contexts
from comfyui_personalize.pocket.state import save_state
from comfyui_personalize.pocket.world_shapes import NOUNS
from comfyui_personalize.tools.pictures import __main__ as command
from comfyui_personalize.tools.pictures.cells import Cell, Cells
from comfyui_personalize.tools.pictures.graphs import (
    CLASS_TITLE,
    UNTRAINED_TITLE,
    for_subject,
    nodes_of,
    with_plain_sampling,
    with_the_class_alone,
    without_labels,
    workflow,
)
from comfyui_personalize.tools.pictures.judging import Panel, load_judge, pixels
from comfyui_personalize.tools.pictures.measures import LOADED, MEASURES, WANTED, is_met, place_of, tile
from comfyui_personalize.tools.pictures.page import LABEL, TILE, wanted_table
from comfyui_personalize.tools.pictures.subjects import PLACES, Subject, photos_of, subject, subjects, write_photos

CAR = Subject(7, "car")


class MeanColour:
    """A judge to whom a picture's mean colour is its identity, whose place is snow where it is bright, else night, and
    who sees a dog and a cat where it is red."""

    def __call__(self, pictures):
        colour = pictures.mean((2, 3))
        bright = (colour.mean(1) > 0.5).float()
        context = torch.full((len(pictures), len(CONTEXTS)), -20.0)
        context[:, CONTEXTS.index("snow")], context[:, CONTEXTS.index("night")] = 20 * bright, 20 * (1 - bright)
        answers = {name: torch.zeros(len(pictures), *shape) for name, shape in HEADS.items()} | {"context": context}
        answers["count"][:, [NOUNS.index("dog"), NOUNS.index("cat")], 1] = (colour[:, :1] > 0.8).float() * 2 - 1
        identity = torch.nn.functional.normalize(colour - 0.5 + 1e-6, dim=-1)
        return answers | {"place": torch.zeros(len(pictures), len(NOUNS), 2), "identity": identity}


def plain(colour, size=(96, 96)):
    return Image.new("RGB", size, colour)


@pytest.mark.parametrize("number", sorted(MEASURES))
@pytest.mark.parametrize("who", [CAR, Subject(8, "cat"), Subject(9, "backpack"), Subject(10, "robot")])
def test_every_workflow_speaks_of_the_subject_and_keeps_its_settings(number, who):
    _, graph = workflow(number)
    changed = for_subject(graph, who, {"personalize_dog_1.png": "mine.png"})
    for key, node in graph.items():
        for name, value in node["inputs"].items():
            if not isinstance(value, str):
                assert changed[key]["inputs"][name] == value
            if name == "class_noun" and value == "dog":
                assert changed[key]["inputs"][name] == who.noun
            if name in ("auxiliary_noun", "candidates") and isinstance(value, str) and number != "13":
                assert who.noun not in changed[key]["inputs"][name].split(", ")
            if value == "personalize_dog_1.png":
                assert changed[key]["inputs"][name] == "mine.png"
    assert all(changed[key]["inputs"]["run_name"].endswith(f"_{who.number}")
               for key in nodes_of(changed, "PersonalizeTrainer"))
    assert json.dumps(for_subject(graph, Subject(3, "dog"), {})).count('"dog"') == json.dumps(graph).count('"dog"')


def test_what_one_workflow_saves_is_what_the_others_load():
    for number, first in LOADED.items():
        saved, = (node["inputs"]["name"] for node in for_subject(workflow(first)[1], CAR, {}).values()
                  if node["class_type"] == "PersonalizeSave")
        loaded, = (node["inputs"]["name"] for node in for_subject(workflow(number)[1], CAR, {}).values()
                   if node["class_type"] == "PersonalizeLoad")
        assert loaded == f"{saved}.safetensors"
    assert [cell.workflow for cell in command.cells_of(["12", "02"], (CAR,))] == [LOADED["12"], "02", "12"]


def test_subjects_are_seen_where_prompts_put_them_and_photographed_elsewhere(tmp_path):
    for who in subjects(3):
        assert set(possible_contexts([subject(who.number)])) >= PLACES
        assert len(photos_of(who.number)) == 4 and not {s.context for s in photos_of(who.number)} & PLACES
    names = write_photos(subjects(1)[0], tmp_path)
    assert all((tmp_path / name).is_file() for name in names.values())
    both, first, second = (Image.open(tmp_path / names[f"personalize_two_objects{end}.png"])
                           for end in ("", "_dog", "_backpack"))
    assert both.size == first.size == (384, 192)
    covers = [np.asarray(image.getchannel("A")) < 128 for image in (first, second)]
    assert covers[0].any() and covers[1].any() and not (covers[0] & covers[1]).any()
    assert covers[0].nonzero()[1].mean() < 192 < covers[1].nonzero()[1].mean()


class FakeClient:
    """Answers every graph with one picture per Save Image node."""

    def __init__(self):
        self.runs = 0

    def run(self, graph, timeout):
        self.runs += 1
        return {key: {"images": [{"filename": key}]} for key in nodes_of(graph, "SaveImage")}

    def download(self, entry):
        buffer = io.BytesIO()
        plain("white").save(buffer, "PNG")
        return buffer.getvalue()


def test_a_cell_runs_once_and_again_only_for_another_graph_or_model(tmp_path):
    client, who = FakeClient(), subjects(1)[0]

    def fill(checkpoint="a", number="01", is_quick=False):
        cells = Cells(tmp_path, tmp_path / "input", checkpoint=checkpoint, is_quick=is_quick)
        cells.fill(client, Cell(number, who))
        return cells.pictures(Cell(number, who))

    assert set(fill()) == {"Your subject", CLASS_TITLE, UNTRAINED_TITLE} and client.runs == 1
    fill()
    assert client.runs == 1
    fill(checkpoint="b")
    assert client.runs == 2
    assert set(fill(number="03")) == {"Plain", "With DCI"} and client.runs == 3
    fill(number="03", is_quick=True)  # other settings
    assert client.runs == 4


def test_a_cell_runs_again_when_what_it_loads_was_made_otherwise_and_finds_no_older_file(tmp_path, monkeypatch):
    who, client, base = subjects(1)[0], FakeClient(), tmp_path / "server"
    first, second = Cell("01", who), Cell("14", who)
    cells = Cells(tmp_path, base / "input", checkpoint="a")
    for cell in (first, second):
        cells.fill(client, cell)
    saved = base / "models" / "loras" / "personalize" / f"pocket_dog_{who.number}.safetensors"
    saved.parent.mkdir(parents=True)
    saved.touch()
    other = base / "models" / "loras" / "personalize" / f"pocket_dog_{who.number}0.safetensors"
    other.touch()
    now = Cells(tmp_path, base / "input", checkpoint="a")
    assert now.is_current(first) and now.is_current(second)
    graph = now.graph(first)
    next(node for node in graph.values() if node["class_type"] == "PersonalizeTrainer")["inputs"]["steps"] = 3
    monkeypatch.setattr(now, "graph", lambda cell: graph if cell == first else Cells.graph(now, cell))
    now._keys.clear()
    assert not now.is_current(first) and not now.is_current(second) and not now.pictures(second)
    now.fill(client, first)
    assert not saved.exists() and other.exists()


def test_the_class_alone_is_drawn_by_the_trained_and_by_the_loaded_model():
    graph = with_the_class_alone(workflow("01")[1], "dog")
    saves = {graph[key]["_meta"]["title"]: key for key in nodes_of(graph, "SaveImage")}
    sampled = {title: graph[graph[graph[key]["inputs"]["images"][0]]["inputs"]["samples"][0]]["inputs"]
               for title, key in saves.items()}
    trained, untrained = sampled[CLASS_TITLE], sampled[UNTRAINED_TITLE]
    assert trained["model"] == sampled["Your subject"]["model"] != untrained["model"]
    assert graph[untrained["model"][0]]["class_type"] == "CheckpointLoaderSimple"
    for inputs in (trained, untrained):
        text = graph[inputs["positive"][0]]["inputs"]
        assert text["text"] == "a dog" and graph[text["clip"][0]] == graph[inputs["model"][0]]
        assert inputs["seed"] == sampled["Your subject"]["seed"]


def test_two_individuals_are_drawn_without_dci_from_the_same_noise():
    graph = with_plain_sampling(workflow("13")[1])
    saves = {graph[key]["_meta"]["title"]: key for key in nodes_of(graph, "SaveImage")}
    sampled = {title: graph[graph[graph[key]["inputs"]["images"][0]]["inputs"]["samples"][0]]["inputs"]
               for title, key in saves.items()}
    assert set(sampled) == {"One prompt", "Two halves", "One prompt, plain", "Two halves, plain"}
    for title in ("One prompt", "Two halves"):
        plain = sampled[f"{title}, plain"]
        assert plain | {"model": None} == sampled[title] | {"model": None}
        assert graph[plain["model"][0]]["class_type"] == "CheckpointLoaderSimple"


def test_a_word_on_a_picture_is_no_part_of_it():
    graph = without_labels(workflow("12")[1])
    assert not nodes_of(graph, "TextOverlay")
    stitched = [graph[graph[key]["inputs"][name][0]]["class_type"] for key in nodes_of(graph, "ImageStitch")
                for name in ("image1", "image2")]
    assert stitched.count("VAEDecode") == 4 and stitched.count("ImageStitch") == 2
    assert without_labels(workflow("01")[1]) == workflow("01")[1]


@pytest.fixture
def panel(monkeypatch):
    """Every subject's photos are red; strangers are green and blue."""
    from comfyui_personalize.tools.pictures import measures

    judge = MeanColour()
    monkeypatch.setattr(measures, "reference", lambda *_: judge(pixels([plain("red")]))["identity"][0])
    strangers = judge(pixels([plain("green"), plain("blue")]))["identity"]
    return Panel(judge, strangers, {"car": judge(pixels([plain((255, 140, 140)), plain("blue")]))["identity"]})


def test_retrieval_and_context_are_shares_of_pictures(panel):
    graph = {"1": {"class_type": "StringReplace", "inputs": {"string": "a {V} dog in the snow"}}}
    pictures = {"Your subject": [plain("red"), plain("blue"), plain((255, 150, 150)), plain("red")],
                CLASS_TITLE: [plain("green"), plain("red")], UNTRAINED_TITLE: [plain("green"), plain((255, 150, 150))]}
    alone = "the class alone is the subject"
    assert MEASURES["01"](graph, pictures, CAR, panel) == pytest.approx(
        {"retrieval": 0.75, "retrieval in its class": 0.5, "context obeyed": 0.25, alone: 0.5,
         f"{alone}, in its class": 0.5, f"{alone}, untrained": 0.5, f"{alone}, in its class, untrained": 0.0})


def test_alignment_is_compared_between_plain_and_dci(panel):
    graph = {"1": {"class_type": "StringReplace", "inputs": {"string": "a {V} dog in the snow"}}}
    pictures = {"Plain": [plain("red")] * 2, "With DCI": [plain((255, 200, 200)), plain("red")]}
    found = MEASURES["03"](graph, pictures, CAR, panel)
    assert found["alignment, plain"] == pytest.approx(0, abs=1e-6)
    assert found["alignment, DCI minus plain"] == pytest.approx(0.5) and found["DCI is higher"] == 1
    assert found["fidelity, plain"] == pytest.approx(1, abs=1e-4)


def test_a_sweeps_sheet_is_read_tile_by_tile(panel):
    sheet = Image.new("RGB", (384, 96))
    for column, colour in enumerate(("red", "red", (255, 200, 200), "white")):
        sheet.paste(plain(colour), (96 * column, 0))
    found = MEASURES["12"](workflow("12")[1], {"sheet": [sheet]}, CAR, panel)
    assert [round(found[f"alignment, {name}"]) for name in ("plain", "omega 0.5", "omega 1", "omega 2")] == [0, 0, 1, 1]
    assert tile(sheet, 3, 4).getcolors() == [(96 * 96, (255, 255, 255))]


def test_two_subjects_are_both_there_and_a_sharper_picture_has_stronger_edges(panel):
    pictures = {"One prompt": [plain("red"), plain("blue")], "Two halves": [plain("red", (192, 96))],
                "One prompt, plain": [plain("blue")], "Two halves, plain": [plain("blue", (192, 96))]}
    found = MEASURES["13"]({}, pictures, CAR, panel)
    assert found["both nouns, one prompt"] == found["both nouns, one prompt, DCI minus plain"] == 0.5
    assert found["halves: left noun"] == 1 and found["halves: left noun, plain"] == 0
    small = Image.fromarray(np.kron(np.eye(12, dtype=np.uint8) * 200, np.ones((8, 8), np.uint8))).convert("RGB")
    large = small.resize((384, 384), Image.Resampling.NEAREST)
    found = MEASURES["11"]({}, {"Personalized picture": [small], "Four times as large": [large]}, CAR, panel)
    assert found["edges against Lanczos"] > 1.5


@pytest.mark.parametrize(("number", "place"), [("01", "snow"), ("07", "jungle"), ("12", "snow"), ("14", "beach")])
def test_the_place_is_read_from_the_workflows_prompt(number, place):
    assert place_of(workflow(number)[1]) == place and place in PLACES


def test_the_table_says_what_was_not_measured():
    lines = wanted_table({"03": {"0": {"DCI is higher": 1.0}, "1": {"DCI is higher": 0.0}}}).splitlines()
    assert len(lines) == 2 + len(WANTED)
    assert "| 03 | DCI is higher | at least 0.8 | 0.500 | 2 | **not met** |" in lines
    assert sum("not measured" in line for line in lines) == len(WANTED) - 1
    drift = next(wanted for wanted in WANTED if wanted.direction == "at most")
    assert is_met(drift, 0.1) and not is_met(drift, 0.11)


def test_kept_pictures_are_judged_without_a_server_and_the_page_is_written(tmp_path):
    state = tmp_path / "s.state"
    torch.manual_seed(0)
    save_state(state, judge=Learner(Judge(), peak=1e-3).state())
    cells, who = Cells(tmp_path / "quick", tmp_path / "quick" / "server" / "input", is_quick=True), subjects(1)[0]
    cells.fill(FakeClient(), Cell("01", who))
    assert command.main(["--subjects", "1", "--quick", "--judge-only", "--judge", str(state), "--folder",
                         str(tmp_path), "--workflows", "01", "05"]) == 0
    written = json.loads((tmp_path / "quick" / "pictures.json").read_text())
    assert set(written["results"]) == {"01"} and set(written["results"]["01"][str(who.number)]) >= {"retrieval"}
    assert "| 05 | retrieval | at least 0.8 | not measured | 0 |" in (tmp_path / "quick" / "pictures.md").read_text()
    assert Image.open(tmp_path / "quick" / "pictures.webp").height == TILE + LABEL


def test_a_missing_judge_is_named(tmp_path):
    with pytest.raises(SystemExit, match="judge: got no file"):
        load_judge(tmp_path / "none.state")


@pytest.mark.full
def test_the_command_runs_workflows_on_a_real_server(tmp_path):
    state = tmp_path / "s.state"
    save_state(state, judge=Learner(Judge(), peak=1e-3).state())
    assert command.main(["--subjects", "2", "--quick", "--judge", str(state), "--folder", str(tmp_path),
                         "--workflows", "01", "12"]) == 0
    assert set(json.loads((tmp_path / "quick" / "pictures.json").read_text())["results"]) == {"01", "12"}

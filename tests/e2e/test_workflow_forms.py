"""The two forms of every workflow say the same, and are what their description gives."""

from __future__ import annotations

import json

import pytest

from comfyui_personalize.core.training.recipe_files import FOLDER as RECIPES
from comfyui_personalize.core.training.recipe_files import read_recipe
from comfyui_personalize.tools.comfyui_server import GraphRefused
from comfyui_personalize.tools.graphs import NOTE, api_form, slots, ui_form
from comfyui_personalize.tools.install_comfyui import ROOT
from comfyui_personalize.tools.workflow_graphs import workflows
from comfyui_personalize.tools.workflow_graphs.your_subject import BLUEPRINT, as_blueprint

FOLDER = ROOT / "workflows"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


@pytest.fixture(scope="module")
def object_info(server):
    """The node classes of a real server."""
    return server.client.object_info()


def read(*parts: str):
    """A committed workflow."""
    return json.loads(FOLDER.joinpath(*parts).read_text(encoding="utf-8"))


def sent_by_editor(ui, object_info):
    """What the editor would send: widget values by position, links by number."""
    origin = {link[0]: [str(link[1]), link[2]] for link in ui["links"]}
    prompt = {}
    for node in ui["nodes"]:
        if node["type"] == NOTE:
            continue
        values, inputs = iter(node["widgets_values"]), {}
        for slot in slots(object_info[node["type"]]):
            if slot.is_widget:
                inputs[slot.name] = next(values)
                if slot.options.get("control_after_generate") or slot.options.get("image_upload"):
                    next(values)
        inputs.update({socket["name"]: origin[socket["link"]] for socket in node["inputs"] if socket["link"]})
        assert next(values, None) is None, f"{node['type']} has more widget values than widgets"
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


@pytest.mark.parametrize("name", NAMES)
def test_the_api_form_is_what_the_editor_would_send(name, object_info):
    api = {number: {"class_type": node["class_type"], "inputs": node["inputs"]}
           for number, node in read("api", f"{name}.json").items()}
    assert sent_by_editor(read(f"{name}.json"), object_info) == api


def test_the_files_are_what_their_descriptions_give(object_info):
    graphs = [build() for build in workflows()]
    assert sorted(graph.name for graph in graphs) == NAMES
    for graph in graphs:
        assert ui_form(graph, object_info) == read(f"{graph.name}.json"), "run `make workflows`"
        assert api_form(graph, object_info) == read("api", f"{graph.name}.json"), "run `make workflows`"


def test_the_blueprint_is_what_its_description_gives_and_the_server_lists_it(server, object_info):
    path = ROOT / "subgraphs" / f"{BLUEPRINT}.json"
    made = as_blueprint(object_info)
    assert made == json.loads(path.read_text(encoding="utf-8")), "run `make workflows`"
    (inside,) = made["definitions"]["subgraphs"]
    assert [socket["name"] for socket in inside["inputs"]] == ["MODEL", "CLIP", "VAE"]
    assert [socket["type"] for socket in inside["outputs"]] == ["IMAGE"]
    known = {node["id"]: node for node in inside["nodes"]} | {-10: None, -20: None}
    for link in inside["links"]:
        assert link["origin_id"] in known and link["target_id"] in known
    listed = server.client.get("/global_subgraphs").values()
    assert BLUEPRINT in [entry["name"] for entry in listed]


def test_your_subject_has_at_most_eight_nodes_and_says_the_recipes_of_models():
    ui = read("00 Your subject in three edits.json")
    assert len(ui["nodes"]) <= 8 and [group["title"] for group in ui["groups"]] == [
        "1 Model", "2 Photos and word", "3 Prompt", "4 Draw"]
    (note,) = (node["widgets_values"][0] for node in ui["nodes"] if node["type"] == NOTE)
    for name in ("sd15", "sdxl", "pocket"):
        values = read_recipe(RECIPES / f"{name}.json").values
        assert f"{values['resolution']} pixels, rate {values['learning_rate']:g}" in note
        assert f"{values['sampler']}, {values['sampling_steps']} steps, cfg {values['cfg']:g}" in note


def test_a_model_of_three_files_misses_those_alone(server):
    with pytest.raises(GraphRefused) as error:
        server.client.run(read("api", "00b Your subject with a model of three files.json"))
    named = {each["extra_info"]["input_name"] for found in error.value.node_errors.values()
             for each in found["errors"]}
    assert named == {"unet_name", "clip_name", "vae_name"}


@pytest.mark.parametrize("name", NAMES)
def test_every_workflow_says_what_to_change_for_other_models(name):
    notes = [node for node in read(f"{name}.json")["nodes"] if node["type"] == NOTE]
    text = " ".join(node["title"] + node["widgets_values"][0] for node in notes)
    assert "SDXL" in text and "512" in text and "1024" in text


@pytest.mark.parametrize("name", NAMES)
def test_every_link_in_the_editors_form_has_two_ends(name):
    ui = read(f"{name}.json")
    nodes = {node["id"]: node for node in ui["nodes"]}
    for number, source, output, target, slot, kind in ui["links"]:
        assert number in nodes[source]["outputs"][output]["links"]
        assert nodes[target]["inputs"][slot]["link"] == number
        assert nodes[target]["inputs"][slot]["type"] == kind

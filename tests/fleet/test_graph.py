"""The user's workflow with another subject in it, and nothing else changed."""

from __future__ import annotations

import copy

import pytest

from comfyui_personalize.fleet.errors import PlanError
from comfyui_personalize.fleet.graph import (
    FOLDER_NODE,
    Place,
    model_files,
    prompt_place,
    read_workflow,
    with_names,
    with_subject,
)
from comfyui_personalize.tools.install_comfyui import ROOT

WORKFLOWS = sorted((ROOT / "workflows" / "api").glob("*.json"))
TRAINING = [path for path in WORKFLOWS if path.name[:2] in ("01", "02", "05", "06", "07", "08", "09")]


def first():
    return read_workflow(TRAINING[0])


def simple():
    """Template 00: Personalize from Photos."""
    return read_workflow(WORKFLOWS[0])


def test_personalize_from_photos_takes_folder_and_noun():
    after = with_names(with_subject(simple(), "fleet/rex", "cat", None), "rex")
    inputs = after["2"]["inputs"]
    assert (inputs["photos"], inputs["what_is_it"], inputs["run_name"]) == ("fleet/rex", "cat", "rex")
    assert after["fleet-save-1"]["inputs"] == {"name": "fleet/rex", "personalization": ["2", 2]}
    assert prompt_place(after, None) == Place("3", "prompt")


def test_personalize_from_photos_picks_its_own_identifier():
    with pytest.raises(PlanError, match="identifier: got 'zkz', expected none"):
        with_subject(simple(), "x", None, "zkz")


def test_the_photos_of_the_workflow_give_way_to_a_folder():
    before = first()
    after = with_subject(before, "fleet/rex", "cat", None)
    assert before == first()
    assert after["7"] == {"class_type": FOLDER_NODE, "_meta": before["7"]["_meta"], "inputs": {
        "identifier": ["2", 0], "class_noun": "cat", "caption_template": "a {V} {noun}", "folder": "fleet/rex"}}
    changed = {node for node in before if before[node] != after[node]}
    assert changed == {"2", "7", "8", "13"}
    assert after["13"]["inputs"]["string"] == before["13"]["inputs"]["string"].replace("dog", "cat")
    assert after["2"]["inputs"]["class_noun"] == after["8"]["inputs"]["class_noun"] == "cat"


def test_a_noun_inside_another_word_stays():
    graph = first()
    graph["13"]["inputs"]["string"] = "a {V} dog with a hotdog and a dog-collar, dogs"
    text = with_subject(graph, "x", "cat", None)["13"]["inputs"]["string"]
    assert text == "a {V} cat with a hotdog and a dog-collar, dogs"


def test_an_identifier_takes_the_place_of_what_the_picker_would_choose():
    graph = with_subject(first(), "x", None, "zkz")
    assert graph["7"]["inputs"]["identifier"] == "zkz" and graph["13"]["inputs"]["replace"] == "zkz"


def test_what_is_written_is_called_after_the_job():
    graph = with_names(first(), "rex")
    assert graph["12"]["inputs"]["run_name"] == "rex"
    assert graph["15"]["inputs"]["name"] == "fleet/rex"
    assert graph["21"]["inputs"]["filename_prefix"] == "fleet/rex/pocket_dog_dreambooth"


def test_a_workflow_that_saves_nothing_gets_a_save_node():
    graph = first()
    del graph["15"]
    added = with_names(graph, "rex")["fleet-save-1"]
    assert added["inputs"] == {"name": "fleet/rex", "personalization": ["12", 5]}


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.stem)
def test_every_training_workflow_of_the_gallery_takes_a_subject(path):
    graph = read_workflow(path)
    prompt_place(graph, None)
    assert with_names(with_subject(graph, "fleet/x", "cat", "zkz"), "x") != graph
    assert model_files(graph) == ["pocket.safetensors"]


def test_the_prompt_is_the_typed_text_that_leads_to_a_sampler():
    assert prompt_place(first(), None) == Place("13", "string")


def test_two_prompts_must_be_told_apart_by_a_title():
    graph = first()
    graph["30"] = copy.deepcopy(graph["19"])
    graph["31"] = {"class_type": "CLIPTextEncode", "inputs": {"text": "a dog", "clip": ["12", 1]},
                   "_meta": {"title": "Other"}}
    graph["30"]["inputs"]["positive"] = ["31", 0]
    with pytest.raises(PlanError, match="leaves 2 texts"):
        prompt_place(graph, None)
    assert prompt_place(graph, "Other") == Place("31", "text")

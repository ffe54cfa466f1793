"""Words that do not belong together are told when the graph is queued; the gallery's graphs are left in peace."""

from __future__ import annotations

import copy
import json
import random

import nodes as stock
import pytest
from comfy_extras import nodes_custom_sampler, nodes_primitive, nodes_string

from comfyui_personalize.core.store.files import read_metadata
from comfyui_personalize.nodes import NODES
from comfyui_personalize.nodes.bridge.queue import graph_check, graph_names
from comfyui_personalize.nodes.bridge.queue.graph_names import name_warnings
from comfyui_personalize.nodes.bridge.queue.graph_walk import readable
from comfyui_personalize.tools.install_comfyui import ROOT

GALLERY = sorted((ROOT / "workflows" / "api").glob("*.json"))


@pytest.fixture(autouse=True)
def known_nodes(monkeypatch):
    extra = [nodes_string.StringReplace, nodes_string.StringConcatenate, nodes_primitive.String,
             nodes_custom_sampler.CFGGuider, nodes_custom_sampler.BasicGuider]
    for node in (*NODES, *extra):
        monkeypatch.setitem(stock.NODE_CLASS_MAPPINGS, node.GET_SCHEMA().node_id, node)
        monkeypatch.setitem(stock.NODE_DISPLAY_NAME_MAPPINGS, node.GET_SCHEMA().node_id, node.GET_SCHEMA().display_name)


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def graph(prompt="a sks dog on the beach", noun="dog", identifier="sks", **changed):
    """Checkpoint, two photos, class images, trainer, DCI, a LoRA on the way, a sampler."""
    nodes = {
        "1": node("CheckpointLoaderSimple", ckpt_name="x"),
        "2": node("LoadImage", image="a.png"), "3": node("LoadImage", image="b.JPG"),
        "4": node("PersonalizeSubjectPhotos", identifier=identifier, class_noun=noun, caption_template="a {V} {noun}",
                  **{"images.image0": ["2", 0], "images.image1": ["3", 0]}),
        "5": node("PriorSampleGen", class_noun="Dog ", model=["1", 0], clip=["1", 1], vae=["1", 2]),
        "6": node("PersonalizePriorPreservation", prior=["5", 0], weight=1.0),
        "7": node("PersonalizeTrainer", model=["1", 0], clip=["1", 1], vae=["1", 2], subject=["4", 0],
                  objective=["6", 0], batch=2, steps=10),
        "8": node("LoraLoaderModelOnly", model=["7", 0], lora_name="x"),
        "9": node("PersonalizeDCIEncode", clip=["7", 1], prompt="a sks dog", identifier="SKS", class_noun="dog"),
        "10": {**node("CLIPTextEncode", clip=["7", 1], text=prompt), "_meta": {"title": "My prompt"}},
        "11": node("CLIPTextEncode", clip=["7", 1], text="blurry"),
        "12": node("KSampler", model=["8", 0], positive=["10", 0], negative=["11", 0]),
    }
    return nodes | changed


def said(nodes):
    return list(name_warnings(readable(nodes)))


@pytest.fixture
def shipped_file(monkeypatch):
    """The personalization that the gallery's graphs load."""
    folder = ROOT / "workflows" / "personalizations"
    monkeypatch.setattr(graph_names, "check_file", lambda name: read_metadata(folder / name))


@pytest.mark.usefixtures("shipped_file")
@pytest.mark.parametrize("path", GALLERY, ids=lambda path: path.stem[:2])
def test_the_gallery_is_left_in_peace(path):
    assert said(json.loads(path.read_text(encoding="utf-8"))) == []


def typed(nodes, word):
    """Each link to a picked or a loaded identifier replaced by a word."""
    made = copy.deepcopy(nodes)
    for each in made.values():
        for name, value in each["inputs"].items():
            if isinstance(value, list) and (nodes[value[0]]["class_type"], value[1]) in (
                    ("IdentifierPicker", 0), ("PersonalizeLoad", 2)):
                each["inputs"][name] = word(value[0], nodes[value[0]]["class_type"])
    return made


@pytest.mark.usefixtures("shipped_file")
@pytest.mark.parametrize("path", GALLERY, ids=lambda path: path.stem[:2])
def test_the_gallery_with_typed_words_is_left_in_peace(path):
    loaded, = graph_names.check_file("pocket_dog_example.safetensors")["identifiers"]
    nodes = json.loads(path.read_text(encoding="utf-8"))
    assert said(typed(nodes, lambda name, kind: f"sks{name}" if kind == "IdentifierPicker" else loaded)) == []


@pytest.mark.usefixtures("shipped_file")
def test_the_gallery_with_other_words_in_its_prompts_is_not():
    """Of each graph that samples a prompt put together from the loaded word."""
    warned = []
    for path in GALLERY:
        nodes = json.loads(path.read_text(encoding="utf-8"))
        if any(each["class_type"] == "PersonalizeLoad" for each in nodes.values()):
            warned += [path.stem[:2]] if said(typed(nodes, lambda *_: "zzz")) else []
    assert len(GALLERY) >= 17 and {"04", "12", "14"} <= set(warned)


def test_a_graph_whose_words_agree_is_left_in_peace():
    assert said(graph()) == []


def test_a_node_that_puts_the_identifier_into_its_prompt_is_left_in_peace():
    nodes = graph(prompt="a {V} {noun} on the beach")
    assert said(nodes)
    nodes["10"]["class_type"] = "PersonalizePromptWithSubject"
    assert said(nodes) == []


def test_a_prompt_without_the_identifier_is_named_with_it():
    ((where, text),) = said(graph(prompt="a dog on the beach"))
    assert where == "10"
    assert text == ("the prompt of My prompt for KSampler has no 'sks', the identifier in Subject Photos: the picture "
                    "need not show your subject. Write for example 'a sks dog'.")


@pytest.mark.parametrize("prompt", ["a SKS dog", "(sks:1.2) dog", "a photo of sks", "embedding:my_dog on the beach"])
def test_an_identifier_in_any_form_is_seen(prompt):
    assert said(graph(prompt=prompt)) == []


def test_a_part_of_a_longer_word_is_no_identifier():
    assert len(said(graph(prompt="a sksy dog"))) == 1


def test_a_prompt_that_is_put_together_is_followed():
    put = {"20": node("StringReplace", string="a {V} dog", find="{V}", replace=["21", 0]),
           "21": node("PrimitiveString", value="sks"), "10": node("CLIPTextEncode", clip=["7", 1], text=["20", 0])}
    assert said(graph(**put)) == []
    put["21"] = node("PrimitiveString", value="zkz")
    assert [where for where, _ in said(graph(**put))] == ["10"]


@pytest.mark.parametrize("changed", [
    {"10": node("CLIPTextEncode", clip=["7", 1], text=["20", 0]), "20": node("SomebodysPromptMaker", topic="dogs")},
    {"10": node("CLIPTextEncode", clip=["7", 1], text=["7", 7])},
    {"10": node("SomebodysEncoder", clip=["7", 1])},
    {"4": node("PersonalizeSubjectPhotos", identifier=["30", 0], class_noun="dog", **{"images.image0": ["2", 0],
                                                                           "images.image1": ["3", 0]})},
    {"4": node("PersonalizePhotosFromFolder", folder="dogs", identifier="zkz", class_noun="cat")},
    {"12": node("KSampler", model=["1", 0], positive=["10", 0], negative=["11", 0])},
], ids=["unknown text", "the trainer's own word", "unknown encoder", "picked", "folder", "base model"])
def test_nothing_is_said_where_the_graph_does_not_tell(changed):
    assert said(graph(prompt="a dog on the beach", **changed)) == []


@pytest.mark.parametrize("guider", [node("CFGGuider", model=["8", 0], positive=["13", 0], negative=["11", 0]),
                                    node("BasicGuider", model=["8", 0], conditioning=["13", 0])])
def test_guiders_and_prompts_behind_other_nodes_are_seen(guider):
    area = node("ConditioningSetArea", conditioning=["10", 0], width=64)
    assert [where for where, _ in said(graph(prompt="a dog", **{"12": guider, "13": area}))] == ["10"]


def test_one_of_several_regions_with_the_identifier_is_enough():
    regions = {"13": node("ConditioningCombine", conditioning_1=["10", 0], conditioning_2=["14", 0]),
               "14": node("CLIPTextEncode", clip=["7", 1], text="a sks dog"),
               "12": node("KSampler", model=["8", 0], positive=["13", 0], negative=["11", 0])}
    assert said(graph(prompt="on the beach", **regions)) == []


def test_a_loaded_file_tells_its_words(monkeypatch):
    monkeypatch.setattr(graph_names, "check_file", lambda _: {"identifiers": ["zkz"], "class_nouns": ["cat"]})
    loader = node("PersonalizeLoad", name="x.safetensors", model=["1", 0], clip=["1", 1])
    nodes = {"1": node("CheckpointLoaderSimple", ckpt_name="x"), "7": loader,
             "10": node("CLIPTextEncode", clip=["7", 1], text="a sks cat"),
             "9": node("DCIConditioning", model=["7", 0], clip=["7", 1], prompt="a zkz dog", identifier=["7", 2],
                       class_noun="dog"),
             "12": node("KSampler", model=["7", 0], positive=["10", 0], negative=["10", 0])}
    texts = dict(said(nodes))
    assert "no 'zkz'" in texts["10"] and "'dog'" in texts["9"] and "'cat'" in texts["9"] and len(texts) == 2


def test_class_images_of_another_noun_are_named_with_both():
    ((where, text),) = said(graph(prompt="a sks cat", noun="cat", **{
        "9": node("PersonalizeDCIEncode", clip=["7", 1], prompt="a sks cat", identifier="sks", class_noun="cat")}))
    assert where == "5" and "'Dog '" in text and "'cat'" in text and "Write the same class noun in both" in text


def test_a_dci_node_with_another_noun_is_named_with_both():
    ((where, text),) = said(graph(**{"9": node(
        "PersonalizeDCIEncode", clip=["7", 1], prompt="a sks cat", identifier="sks", class_noun="cat")}))
    assert where == "9" and "'cat'" in text and "'dog'" in text


def test_several_subjects_of_a_dci_node_are_told_apart():
    both = {"40": node("PersonalizeSubjectPhotos", identifier="zkz", class_noun="cat", subject=["4", 0],
                       **{"images.image0": ["2", 0]})}
    fits = node("PersonalizeDCIEncode", clip=["7", 1], prompt="a sks dog and a zkz cat", identifier="sks, zkz",
                class_noun="dog, cat")
    assert said(graph(**both, **{"9": fits})) == []
    fits["inputs"]["class_noun"] = "cat, dog"
    assert [where for where, _ in said(graph(**both, **{"9": fits}))] == ["9", "9"]


def test_a_batch_above_the_photos_is_named_where_they_can_be_counted():
    large = graph()["7"]["inputs"] | {"batch": 64}
    ((where, text),) = said(graph(**{"7": node("PersonalizeTrainer", **large)}))
    assert where == "7" and "a batch of 64 holds some of the 2 photos more than once" in text
    assert said(graph(**{"7": node("PersonalizeTrainer", **large), "2": node("LoadImage", image="moves.gif")})) == []


def test_a_graph_that_goes_round_in_circles_or_is_very_long_ends():
    ring = {"8": node("LoraLoaderModelOnly", model=["8", 0]), "4": node("PersonalizeSubjectPhotos", subject=["4", 0]),
            "10": node("CLIPTextEncode", text=["10", 0])}
    said(graph(**ring))
    long = {str(100 + i): node("LoraLoaderModelOnly", model=[str(99 + i) if i else "7", 0]) for i in range(3000)}
    long["12"] = node("KSampler", model=["3099", 0], positive=["10", 0], negative=["11", 0])
    assert [where for where, _ in said(graph(prompt="a dog", **long))] == ["10"]


@pytest.mark.parametrize("prompt", [5, "x", [], {"1": 5}, {"1": {"class_type": [], "inputs": {}}},
                                    {"1": {"class_type": "KSampler", "inputs": []}},
                                    {"1": node("KSampler", model=[{}, 0], positive=[[], 9])},
                                    {"1": node("KSampler", model=["1", -5], positive=["2", 0])},
                                    {"1": {"class_type": "PersonalizeSubjectPhotos", "inputs": {"identifier": {}},
                                           "_meta": 3}}])
def test_a_broken_graph_is_left_to_comfyui(prompt):
    assert graph_check.check_queued({"prompt": prompt}) == {"prompt": prompt}


ODD = [None, True, -1, 10**30, float("nan"), "", "\ud800", "x" * 1000, [], ["x"], ["12", 0], [["12", 0], 0], [1, 2, 3],
       {}, {"a": 1}]
CHANGED = 60
"""Inputs of each graph that are changed, one at a time."""


@pytest.mark.parametrize("path", GALLERY, ids=lambda path: path.stem[:3])
def test_whatever_an_input_holds_the_graph_is_looked_at(path, caplog):
    rng, nodes = random.Random(path.name), json.loads(path.read_text(encoding="utf-8"))
    places = [(name, key) for name, each in nodes.items() for key in each["inputs"]]
    for _ in range(CHANGED):
        name, key = rng.choice(places)
        changed = copy.deepcopy(nodes)
        changed[name]["inputs"][key] = rng.choice(ODD)
        graph_check.check_queued({"prompt": changed})
        assert "could not be looked at" not in caplog.text, (name, key, changed[name]["inputs"][key])


@pytest.mark.parametrize("name", [None, 5, ["12", 0], {"a": 1}], ids=repr)
def test_a_file_that_cannot_be_told_costs_no_other_warning(name, caplog):
    large = graph()["7"]["inputs"] | {"batch": 64}
    nodes = graph(**{"7": node("PersonalizeTrainer", **large), "20": node("PersonalizeLoad", name=name, model=["7", 0]),
                     "21": node("KSampler", model=["20", 0], positive=["10", 0], negative=["11", 0])})
    assert [where for where, _ in said(nodes)] == ["7"] and not caplog.text


def test_an_error_in_looking_costs_no_run(monkeypatch, caplog):
    monkeypatch.setattr(graph_check, "name_warnings", lambda _: (1 / 0 for _ in "x"))
    assert graph_check.check_queued({"prompt": graph()}) == {"prompt": graph()}
    assert "could not be looked at" in caplog.text

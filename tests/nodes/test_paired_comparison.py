"""The node gathers lists and batches of pictures, their prompts and the photos, and writes one page."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import folder_paths
import pytest
import torch
from run_node import run_node

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.subject.subject import Photo, Subject
from comfyui_personalize.nodes.bridge.evaluation.paired_pages import as_raters_read, prompt_of_each
from comfyui_personalize.nodes.paired_comparison import PairedComparison


@pytest.fixture(autouse=True)
def output_folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    return tmp_path


def pictures(count=2, size=16, channels=3):
    return torch.rand(count, size, size, channels, generator=torch.Generator().manual_seed(count + size))


def subject(identifier="sks"):
    return Subject(identifier=identifier, class_noun="dog", photos=(Photo(pixels=pictures(1)[0]),) * 2)


TEXTS = {"name_a": "plain", "name_b": "DCI", "name_c": "method C", "name_d": "method D",
         "prompts": "a sks dog\na wet sks dog",
         "title": "My dog", "file_name": "comparisons/dog"}


def write(images_a=None, images_b=None, subjects=None, prompts=None, **changed) -> Path:
    """The node as the executor calls it: every input is a list."""
    subjects = (subject(),) if subjects is None else subjects
    widgets = {**TEXTS, "seed": 0, "pairs_per_sheet": 25} | changed
    inputs = {name: value if isinstance(value, list) else [value] for name, value in widgets.items()}
    return Path(run_node(PairedComparison, images_a=list(images_a or [pictures()]),
                         images_b=list(images_b or [pictures()]), subject=[subjects] if subjects else None,
                         **inputs | ({} if prompts is None else {"prompts": prompts}))[0])


def study_of(path: Path):
    return json.loads(re.search(r'id="study">(.*?)</script>', path.read_text(encoding="utf-8"))[1])


def test_a_page_is_written_below_the_output_folder(output_folder):
    path = write()
    assert path == output_folder / "comparisons" / "dog.html"
    study = study_of(path)
    assert study["prompts"] == ["a dog", "a wet dog"] and study["title"] == "My dog"
    assert len(study["pictures"]) == 4 and len(study["photos"]) == 2
    assert set(json.loads(base64.b64decode(study["key"]))) == {"plain", "DCI"}


def test_the_same_page_is_written_once_and_another_never_replaces_it(output_folder):
    first = write()
    assert write() == first
    second = write(seed=1)
    assert second.name == "dog-2.html" and write(seed=1) == second
    assert sorted(path.name for path in first.parent.iterdir()) == ["dog-2.html", "dog.html"]


def test_a_list_of_batches_is_one_methods_pictures_in_order():
    as_list = write(images_a=[pictures(2)[:1], pictures(2)[1:]])
    assert write(images_a=[pictures(2)]) == as_list


def test_more_methods_come_through_the_optional_sockets():
    path = write(images_c=pictures(), images_d=pictures(), name_c="ICO", name_d="base")
    assert set(json.loads(base64.b64decode(study_of(path)["key"]))) == {"plain", "DCI", "ICO", "base"}
    assert len(study_of(path)["sheets"][0]) == 12


def test_reference_images_do_where_there_is_no_subject_and_prompts_stay_as_typed():
    study = study_of(write(subjects=(), reference_images=[pictures(1, 24), pictures(1, 32)]))
    assert len(study["photos"]) == 2 and study["prompts"][0] == "a sks dog"


@pytest.mark.parametrize(("texts", "batches", "expected"), [
    (["one\n\n  two  "], [2], ["one", "two"]),
    (["one"], [2, 1], ["one", "one", "one"]),
    (["one", "two"], [2, 1], ["one", "one", "two"]),
    (["one", "two", "three"], [2, 1], ["one", "two", "three"]),
])
def test_prompts_are_one_for_each_picture_each_batch_or_all(texts, batches, expected):
    assert prompt_of_each(texts, [pictures(count) for count in batches]) == expected


def test_every_subjects_identifier_is_taken_out():
    assert as_raters_read(["a sks dog and a tqz dog, wet"], [subject(), subject("tqz")]) == ["a dog and a dog, wet"]


@pytest.mark.parametrize(("changed", "words"), [
    ({"images_b": (pictures(3),)}, "pictures of DCI: got 3 pictures, expected 2, as plain has"),
    ({"images_b": (pictures(2, 24),)}, "24 x 24 pixels, expected 16 x 16"),
    ({"images_b": (pictures(1), pictures(1, 24))}, "pictures of DCI: got pictures of 16 x 16 and 24 x 24"),
    ({"prompts": ["a", "b", "c"]}, "prompts: got 3 for 2 pictures"),
    ({"images_a": (pictures(3),), "images_b": (pictures(3),)}, "prompts: got 2 for 3 pictures"),
    ({"name_b": "Plain "}, "'plain' for two methods"),
    ({"images_c": pictures(), "name_c": ""}, "empty name"),
    ({"subjects": ()}, "neither a subject nor reference images"),
    ({"file_name": "../elsewhere"}, "file_name"),
])
def test_bad_input_is_refused_and_nothing_is_written(output_folder, changed, words):
    with pytest.raises(InputError, match=words):
        write(**changed)
    assert list(output_folder.iterdir()) == []


def test_bad_texts_are_refused_when_the_graph_is_queued_and_linked_ones_wait():
    def validate(**changed):
        return PairedComparison.validate_inputs(**{name: [text] for name, text in (TEXTS | changed).items()})

    assert validate() is True and validate(prompts=None, name_a=None, title=None, file_name=None) is True
    assert "two methods" in validate(name_b="PLAIN") and "prompts: got an empty text" in validate(prompts=" ")
    assert "title" in validate(title="") and "file_name" in validate(file_name="a/../b")

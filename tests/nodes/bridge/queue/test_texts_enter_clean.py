"""Every text of every node loses invisible characters on its way in; broken ones are refused by the input's name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comfy_api.v0_0_2 import io

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.nodes import NODES
from comfyui_personalize.nodes.bridge.files.personalizations import check_name
from comfyui_personalize.nodes.scene_photo import ObjectMask
from comfyui_personalize.nodes.subject_photos import SubjectPhotos
from comfyui_personalize.nodes.subject_prompts import OWN, SubjectPrompts
from comfyui_personalize.nodes.token_vectors import TokenVectors
from comfyui_personalize.nodes.training_preview import TrainingPreview

NO_WORDS = {"block_ranks", "target_pattern", "path", "dino_path", "lpips_path", "compare", "scales", "folder"}
"""Patterns, numbers, paths and JSON, which have checks of their own."""
NAMES = {"run_name", "name", "file_name"}
"""Names of files, which `check_run_name` cleans."""
JUNK = "\ufeff\u200b{}\u200b\u00ad"


def texts() -> list:
    return [pytest.param(node, socket.id, id=f"{node.__name__}-{socket.id}")
            for node in NODES for socket in node.define_schema().inputs
            if isinstance(socket, io.String.Input) and socket.id not in NO_WORDS | NAMES]


def run(node, **changes):
    """The node with every widget at its default, and a link of no use at every socket that needs one but `changes`."""
    schema = node.define_schema()
    links = {socket.id for socket in schema.inputs if not socket.optional and not isinstance(socket, io.WidgetInput)}
    given = {socket.id: object() if socket.id in links else getattr(socket, "default", None)
             for socket in schema.inputs} | changes
    given = {name: [value] if schema.is_input_list and value is not None and not isinstance(value, dict) else value
             for name, value in given.items()}
    return node.PREPARE_CLASS_CLONE(None).execute(**given).args


@pytest.mark.parametrize(("node", "name"), texts())
@pytest.mark.parametrize("broken", ["\ud800", "a\x00b"], ids=["lone surrogate", "zero byte"])
def test_a_broken_text_is_refused_before_anything_else_by_its_inputs_name(node, name, broken):
    extra: dict[str, Any] = {"kind": OWN} if node is SubjectPrompts else {}
    extra |= {"images": {"image0": [torch.rand(1, 32, 32, 3)]}} if node is SubjectPhotos else {}
    with pytest.raises(InputError, match=f"^{name}: got the character U"):
        run(node, **{name: broken}, **extra)


def test_every_text_input_is_among_them():
    assert len(texts()) > 30 and {"prompt", "identifier", "class_noun", "captions", "label", "templates", "avoid"} <= {
        given.values[1] for given in texts()}


@pytest.mark.parametrize("name", ["dog\ud800", "dog\x1b"])
def test_a_broken_file_name_is_refused(name):
    with pytest.raises(InputError, match="^name: got .*Write a plain name"):
        check_name(name)


def test_a_subject_is_the_one_without_invisible_characters():
    (subject,), *_ = run(SubjectPhotos, images={"image0": [torch.rand(2, 32, 32, 3)]}, identifier=JUNK.format("zkz"),
                      class_noun=JUNK.format("toy\u00a0dog"), caption_template=JUNK.format("a {V}\u200b {noun}"),
                      captions=JUNK.format("{V} up\nA {V} do\u00adwn"))
    assert (subject.identifier, subject.class_noun, subject.caption) == ("zkz", "toy dog", "a zkz toy dog")
    assert [subject.caption_of(photo) for photo in subject.photos] == ["zkz up", "A zkz down"]


def test_linked_captions_with_byte_order_marks_are_the_plain_ones():
    node = SubjectPhotos.PREPARE_CLASS_CLONE(None)
    (subject,), *_ = node.execute(images={"image0": [torch.rand(2, 32, 32, 3)]}, identifier=["zkz"], class_noun=["dog"],
                               caption_template=["a {V}"], captions=["\ufeffzkz dog up", "\ufeff"]).args
    assert [photo.caption for photo in subject.photos] == ["zkz dog up", None]


def test_words_of_objects_vectors_previews_and_prompts_are_clean():
    (found,), = run(ObjectMask, mask=torch.ones(32, 32), identifier=JUNK.format("zkz"), class_noun=JUNK.format("dog"))
    (words,), = run(TokenVectors, identifier=JUNK.format("zkz"), start_text=JUNK.format("{noun}"))
    preview, = run(TrainingPreview, prompt=JUNK.format("a zkz dog"), negative_prompt=JUNK.format("bad"))
    prompts = run(SubjectPrompts, kind=OWN, identifier=JUNK.format("zkz"), class_noun=JUNK.format("dog"),
                  templates=JUNK.format("a {V} {noun}"))
    assert (found.identifier, found.class_noun) == ("zkz", "dog")
    assert (words.identifier, words.config.start_text) == ("zkz", "{noun}")
    assert (preview.prompt, preview.negative_prompt) == ("a zkz dog", "bad")
    assert prompts == (["a zkz dog"], ["a dog"])


@pytest.mark.parametrize("changes", [{"identifier": "embedding:"}, {"class_noun": "embedding:"},
                                     {"captions": "a embedding: {V}"}, {"caption_template": "embedding: {V}"}])
def test_embedding_without_a_name_is_refused_where_words_are_given(changes):
    with pytest.raises(InputError, match=f"^{next(iter(changes))}: got 'embedding:' without a name"):
        run(SubjectPhotos, images={"image0": [torch.rand(1, 32, 32, 3)]}, **changes)

"""The DCIConditioning node: its face, its refusals, and that it loads nothing before them."""

from __future__ import annotations

import logging

import pytest
import torch
from dci_rig import apply_dci

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.nodes.dci_conditioning import DCIConditioning


@pytest.fixture
def clip_that_must_not_load(tiny, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the text encoder was used")
    monkeypatch.setattr(type(tiny[1]), "encode_from_tokens_scheduled", refuse)
    monkeypatch.setattr(type(tiny[1]), "load_model", refuse)
    return tiny[1]


def test_schema_is_complete():
    schema = DCIConditioning.GET_SCHEMA()
    assert schema.node_id == "DCIConditioning" and schema.category == "personalize"
    assert all(entry.tooltip for entry in [*schema.inputs, *schema.outputs])
    widgets = [entry for entry in schema.inputs if hasattr(entry, "default")]
    assert len(widgets) == 7
    assert [output.io_type for output in schema.outputs] == ["MODEL", "CONDITIONING"]


def test_model_is_cloned_and_the_clip_untouched(tiny):
    model, _ = apply_dci(*tiny)
    assert model is not tiny[0] and model.is_clone(tiny[0]) and "outer_sample" not in tiny[0].wrappers


def test_model_without_attention_to_the_text_is_refused_before_anything_loads(tiny, clip_that_must_not_load):
    model = tiny[0].clone()
    model.add_object_patch("diffusion_model", torch.nn.Linear(1, 1))
    with pytest.raises(InputError, match="attention of the image to the text") as error:
        apply_dci(model, clip_that_must_not_load)
    assert error.value.name == "model"


@pytest.mark.parametrize(("changes", "name"), [
    ({"auxiliary_noun": " Dog"}, "auxiliary_noun"), ({"prompt": "a dog"}, "prompt"),
    ({"identifier": ""}, "identifier"), ({"omega": 3.0}, "omega"), ({"window": 2.0}, "window"),
])
def test_wrong_input_is_refused_before_anything_loads(tiny, clip_that_must_not_load, changes, name):
    with pytest.raises(InputError) as error:
        apply_dci(tiny[0], clip_that_must_not_load, **changes)
    assert error.value.name == name


def test_synonym_is_warned_about_and_works(tiny, caplog):
    with caplog.at_level(logging.WARNING):
        apply_dci(*tiny, auxiliary_noun="puppy")
    assert any("much the same" in record.message for record in caplog.records)

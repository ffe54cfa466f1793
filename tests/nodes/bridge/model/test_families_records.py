"""The record of a family is found by itself, and is of models of its own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from comfy import model_base
from families import FAMILIES, family_models
from tiny_upscaler import upscaler_models

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.nodes.bridge.model import families
from comfyui_personalize.nodes.bridge.model.denoiser import ComfyDenoiser, check_model
from comfyui_personalize.nodes.bridge.model.families import FAMILIES as KNOWN
from comfyui_personalize.nodes.bridge.model.families import family_of, pocket, trained_at
from comfyui_personalize.nodes.bridge.model.families.record import Resolution
from comfyui_personalize.nodes.bridge.model.families.unknown import unknown_family
from comfyui_personalize.pocket import config


def test_every_file_with_a_record_is_found():
    assert {family.name for family in KNOWN} == {"Flux", "SD3", "SDXL", "Stable Diffusion 1.x / 2.x",
                                                "Stable Diffusion x4 upscaler", "the pocket model"}


@pytest.mark.parametrize("name", FAMILIES)
def test_one_record_recognises_a_model_and_says_how_it_reads_text(name):
    model = family_models(name)[0]
    assert [family for family in KNOWN if family.recognises(model.model)] == [family_of(model)]
    assert ComfyDenoiser(model, 64).may_repeat_text == FAMILIES[name].has_cross_attention


def test_the_upscaler_is_known_and_refused_as_a_text_to_image_model():
    model = upscaler_models()[0]
    assert [family for family in KNOWN if family.recognises(model.model)] == [family_of(model)]
    with pytest.raises(InputError, match="model: got an upscaler.*Personalize Super-Resolution"):
        check_model(SimpleNamespace(model=_without_concat(model.model), get_model_object=model.get_model_object))


def _without_concat(base):
    base.concat_keys = ()
    return base


def test_a_subclass_of_a_known_model_is_unknown_and_its_network_is_asked_how_it_reads_text():
    model = family_models("sdxl")[0]
    model.model.__class__ = type("SDXL_edit", (model_base.SDXL,), {})
    found = family_of(model)
    assert (found.name, found.is_verified, found.is_read_by_diffusers) == ("SDXL_edit", False, False)
    assert found.has_cross_attention and found.recognises(model.model)
    assert not unknown_family(family_models("flux")[0].model).has_cross_attention


def test_the_pockets_widths_are_those_of_its_folder():
    assert (pocket.CHANNELS, pocket.CONTEXT, pocket.SIZE) == (config.MODEL_CHANNELS, config.CONTEXT_DIM, config.SIZE)


@pytest.mark.parametrize(("shape", "is_of"), [((320, 1024, True), True), ((320, 1024, False), False),
                                              ((64, 1024, True), False), ((320, 768, True), False)])
def test_a_resolution_is_of_one_shape(shape, is_of):
    assert Resolution(low=768, high=768, channels=320, context=1024, is_v=True).is_of(*shape) == is_of


def test_a_resolution_of_no_shape_is_of_every_one(monkeypatch):
    known = families.Family(name="any", recognises=lambda base: True, has_cross_attention=True,
                            resolutions=(Resolution(low=1, high=2),))
    monkeypatch.setattr(families, "FAMILIES", (known,))
    assert trained_at(SimpleNamespace(model=SimpleNamespace(model_config=SimpleNamespace()))) == (1, 2)

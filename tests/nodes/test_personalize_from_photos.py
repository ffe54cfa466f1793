"""Photos and one word on a real ComfyUI model: what is chosen, told, handed on and refused."""

from __future__ import annotations

import itertools
from dataclasses import replace

import comfy.samplers
import numpy
import pytest
import torch
from PIL import Image
from run_node import run_node
from trainer_rig import equal

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.training.recipe import resolve_sampling
from comfyui_personalize.nodes.bridge.model.recipes import recipe_of
from comfyui_personalize.nodes.bridge.training import from_photos
from comfyui_personalize.nodes.bridge.training.from_photos import run_name_of
from comfyui_personalize.nodes.personalize_from_photos import PersonalizeFromPhotos
from comfyui_personalize.nodes.prompt_with_subject import PromptWithSubject

pytestmark = pytest.mark.usefixtures("inference_mode", "store")
OUTPUTS = [output.display_name or output.io_type for output in PersonalizeFromPhotos.GET_SCHEMA().outputs]


COUNTER = itertools.count()


def ramp(height=32, width=24, seed=0):
    return Image.fromarray(numpy.random.default_rng(seed).integers(0, 255, (height, width, 3), numpy.uint8))


@pytest.fixture
def folder(base_directory):
    """A new folder in ComfyUI's input folder."""
    path = base_directory / "input" / f"mine{next(COUNTER)}"
    path.mkdir()
    return path


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """The recipe of the tiny model's family at a size for tests."""
    monkeypatch.setattr(from_photos, "recipe_of", lambda model: replace(
        recipe_of(model), resolution=64, rank=2, sampling_steps=2, size=96))


def personalize(models, photos="none", images=None, **changes):
    """The node's outputs by name; every input is a list, as the executor hands it over."""
    values = {"photos": photos, "what_is_it": "dog", "kind": "pet", "effort": "quick", "pictures": 2, "steps": 2,
              "seed": 0, "run_name": ""} | changes
    loaded = dict(zip(("model", "clip", "vae"), models, strict=True))
    found = run_node(PersonalizeFromPhotos, images=images,
                     **{name: [value] for name, value in (loaded | values).items()})
    return dict(zip(OUTPUTS, found, strict=True))


def pictures(count=2):
    return [torch.rand(1, 70 + 10 * number, 90, 3, generator=torch.Generator().manual_seed(number))
            for number in range(count)]


def test_photos_of_a_folder_and_a_word_give_everything_that_a_sampler_takes(models, folder, store):
    for number in range(2):
        ramp(72, 96, seed=number).save(folder / f"{number}.png")
    found = personalize(models, photos=folder.name)
    recipe = resolve_sampling(recipe_of(models[0])).values
    assert found["LATENT"]["samples"].shape == (2, 4, 12, 12) and not found["LATENT"]["samples"].any()
    assert (found["steps"], found["cfg"]) == (2, recipe["cfg"])
    assert (found["sampler_name"], found["scheduler"]) == (recipe["sampler"], recipe["scheduler"])
    assert (found["class_noun"], found["SUBJECT"][0].identifier) == ("dog", found["identifier"])
    assert found["IMAGE"].shape == (2, 64, 64, 3)  # after half of two steps, and at the end
    assert (store / "dog").is_dir() and found["MODEL"] is not models[0]


def test_every_number_is_told_with_its_reason_and_how_to_write_prompts_comes_first(models):
    found = personalize(models, images=pictures())
    name, report = found["identifier"], found["report"]
    assert report.startswith(f"Use {name}: write '{name} dog' in prompts, or {{V}} {{noun}} in Prompt with Subject.")
    for told in ("identifier", "steps 2: as asked", "class kept by the base model's own predictions: the effort quick",
                 "resolution 64: recipe of", "learning rate ", "batch ", "rank 2: recipe of", "targets ",
                 "noise levels uniform, shift 0: recipe of",
                 "pictures: sampler ", "pictures: scheduler ", "pictures: sampling steps 2: recipe of",
                 "pictures: cfg ", "pictures: size 96: recipe of"):
        assert f"\n  {told}" in report, told
    assert "trained 2 steps" in report


def test_a_pet_is_trained_beside_class_images_and_a_style_beside_nothing(models):
    pet = personalize(models, images=pictures(), effort="normal", steps=1)
    assert [one["kind"] for one in pet["PERSONALIZATION"].metadata["config"]["objectives"]] == ["prior_preservation"]
    assert "class kept by 1 class images" in pet["report"]
    style = personalize(models, images=pictures(), kind="style", what_is_it="painting", steps=1)
    assert style["PERSONALIZATION"].metadata["config"]["objectives"] == []
    assert style["SUBJECT"][0].caption == f"a painting in {style['identifier']} style"


def test_noise_levels_are_the_recipes(models, monkeypatch):
    monkeypatch.setattr(from_photos, "recipe_levels", lambda *_: ("logit_normal", 3.0))
    found = personalize(models, images=pictures(), kind="style", steps=1)
    (levels,) = found["PERSONALIZATION"].metadata["config"]["objectives"]
    assert (levels["kind"], levels["levels"], levels["shift"]) == ("loss_weighting", "logit_normal", 3.0)
    assert "\n  noise levels logit_normal, shift 3: recipe of" in found["report"]


def test_the_same_graph_loads_its_run_and_more_steps_go_on(models):
    first = personalize(models, images=pictures())
    again = personalize(models, images=pictures(), pictures=1)
    assert "loaded" in again["report"] and equal(first["PERSONALIZATION"].lora, again["PERSONALIZATION"].lora)
    assert "trained 1 steps, resumed from step 2" in personalize(models, images=pictures(), steps=3)["report"]


@pytest.mark.parametrize(("changes", "message"), [
    ({}, "photos: got none"), ({"what_is_it": " "}, "what_is_it: got an empty text"),
    ({"photos": "somewhere"}, "folder: got 'somewhere'"), ({"kind": "cat"}, "kind: got 'cat'"),
    ({"effort": "much"}, "effort: got 'much'")])
def test_what_cannot_be_used_is_refused_by_name(models, changes, message):
    images = None if not changes or "photos" in changes else pictures(1)
    with pytest.raises(InputError, match=f"^{message}"):
        personalize(models, images=images, **changes)


def test_a_folder_and_images_together_are_refused(models, folder):
    with pytest.raises(InputError, match="a folder and connected images"):
        personalize(models, photos=folder.name, images=pictures(1))


def test_subfolders_of_several_subjects_are_refused_in_words(models, folder):
    for name in ("zkz dog", "wrs cat"):
        (folder / name).mkdir()
        ramp().save(folder / name / "1.png")
    with pytest.raises(InputError, match="2 subfolders with photos"):
        personalize(models, photos=folder.name)


def test_a_checkpoint_without_clip_is_refused(models):
    with pytest.raises(InputError, match="clip: got nothing"):
        personalize((models[0], None, models[2]), images=pictures(1))


def test_words_are_refused_when_the_graph_is_queued(folder):
    check = PersonalizeFromPhotos.validate_inputs
    assert check(photos=["none"], what_is_it=["dog"], kind=["pet"], effort=["quick"], run_name=[""]) is True
    assert check(photos=[folder.name]) is True
    refused = check(photos=["somewhere"], what_is_it=[""], kind=["cat"], effort=["x"], run_name=["a/b"])
    assert [line.partition(":")[0] for line in refused.splitlines()] == ["folder", "what_is_it", "kind", "effort",
                                                                         "run_name"]


def test_a_changed_photo_is_seen(folder):
    ramp(seed=1).save(folder / "1.png")
    before = PersonalizeFromPhotos.fingerprint_inputs(photos=[folder.name])
    ramp(seed=2).save(folder / "1.png")
    assert PersonalizeFromPhotos.fingerprint_inputs(photos=[folder.name]) != before
    assert PersonalizeFromPhotos.fingerprint_inputs(photos=["none"]) == "none"


@pytest.mark.parametrize(("noun", "name"), [("toy car", "toy_car"), ("a/b..", "a_b"), ("玩具", "玩具"),
                                            ("!", "subject")])
def test_a_run_is_named_by_its_noun(noun, name):
    assert run_name_of(noun) == name


def test_sampler_and_scheduler_have_the_types_of_the_samplers_inputs():
    types = dict(zip(OUTPUTS, PersonalizeFromPhotos.RETURN_TYPES, strict=True))
    assert types["sampler_name"] == comfy.samplers.KSampler.SAMPLERS
    assert types["scheduler"] == comfy.samplers.KSampler.SCHEDULERS


def test_a_prompt_is_encoded_with_the_learned_word_and_by_name_alike(models):
    found = personalize(models, images=pictures(), steps=1)
    conditioning, text = run_node(PromptWithSubject, clip=found["CLIP"], personalization=found["PERSONALIZATION"],
                                  prompt="a {V} {noun} in the snow")
    assert text == f"a {found['identifier']} dog in the snow"
    named, same = run_node(PromptWithSubject, clip=found["CLIP"], identifier=found["identifier"], class_noun="dog",
                           prompt="a {V} {noun} in the snow")
    assert same == text and torch.equal(named[0][0], conditioning[0][0])
    stock = found["CLIP"].encode_from_tokens_scheduled(found["CLIP"].tokenize(text), show_pbar=False)
    assert torch.equal(stock[0][0], conditioning[0][0])


def test_a_prompt_without_the_subject_or_without_a_source_is_refused(models):
    assert "{V}" in PromptWithSubject.validate_inputs(prompt="a dog in the snow")
    for sources in ({}, {"personalization": object(), "identifier": "cek"}):
        with pytest.raises(InputError, match="personalization: got"):
            run_node(PromptWithSubject, clip=models[1], prompt="a {V}", **sources)

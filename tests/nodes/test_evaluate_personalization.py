"""Evaluate Personalization: KSampler's own pictures, figures that are right where truth is known, and refusals."""

from __future__ import annotations

import json
import math

import comfy.model_management
import comfy.utils
import nodes as stock
import pytest
import torch
from dci_rig import apply_dci
from run_node import run_node

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.model.image_text import unit
from comfyui_personalize.core.subject.subject import Photo, Subject
from comfyui_personalize.nodes.evaluate_personalization import EvaluatePersonalization

PROMPTS = "# places\na {V} {noun} in the snow\na sks dog at night\n# properties\na red {V} {noun}"
SETTINGS = {"label": "tiny", "identifier": "", "auxiliary_noun": "", "negative_prompt": "", "seeds": 2, "seed": 5,
            "size": 64, "steps": 2, "cfg": 3.0, "sampler": "euler_ancestral", "scheduler": "normal",
            "class_pictures": 2, "dino_path": "", "lpips_path": ""}


class Colours:
    """A CLIP of three dimensions: pictures by their mean colour, every text as grey."""

    text_projection = torch.eye(3)

    def embed_images(self, pixels):
        return unit(pixels.mean((1, 2)) + 0.01)

    def embed_texts(self, prompts):
        return unit(torch.ones(len(prompts), 3))


def subject(count: int = 2, **words) -> tuple[Subject, ...]:
    generator = torch.Generator().manual_seed(1)
    photos = tuple(Photo(pixels=torch.rand(64 + number, 80, 3, generator=generator)) for number in range(count))
    return (Subject(photos=photos, **{"identifier": "sks", "class_noun": "dog", **words}),)


def evaluate(models, **changes):
    """Table, JSON as a dict, chart, sheet, pictures."""
    given = dict(zip(("model", "clip", "vae"), models, strict=True)) | {"subject": subject()} | SETTINGS | changes
    prompts = given.pop("prompts", PROMPTS)
    lists = {name: [value] for name, value in given.items()}
    table, record, *pictures = run_node(EvaluatePersonalization, **lists,
                                        prompts=prompts if isinstance(prompts, list) else [prompts])
    return table, json.loads(record), *pictures


@pytest.fixture(scope="module")
def plain(models):
    return evaluate(models)


@pytest.fixture(scope="module")
def judged(models):
    return evaluate(models, image_text=Colours(), reference_model=models[0], reference_clip=models[1])


def ksample(models, text: str, seed: int):
    """What stock nodes make of one prompt, (64, 64, 3)."""
    model, clip, vae = models
    with torch.inference_mode():
        positive, negative = (stock.CLIPTextEncode().encode(clip, words)[0] for words in (text, ""))
        latent = {"samples": torch.zeros(1, 4, 8, 8)}
        samples = stock.KSampler().sample(model, seed, 2, 3.0, "euler_ancestral", "normal", positive, negative, latent)
        return stock.VAEDecode().decode(vae, samples[0])[0][0]


def test_every_picture_is_ksamplers_at_the_seeds_in_order(models, plain):
    pictures = plain[4]
    assert pictures.shape == (6, 64, 64, 3)
    assert torch.equal(pictures[0], ksample(models, "a sks dog in the snow", 5))
    assert torch.equal(pictures[3], ksample(models, "a sks dog at night", 6))
    assert torch.equal(pictures[4], ksample(models, "a red sks dog", 5))


def test_without_encoders_there_are_a_sheet_a_chart_diversity_and_words_about_the_rest(plain):
    table, record, chart, sheet, _ = plain
    assert record["figures"].keys() == {"diversity_pixels"}
    assert record["absent"]["CLIP-I, CLIP-T"] == "needs an image-text encoder"
    assert {"DINO", "KID", "drift", "diversity by LPIPS"} <= record["absent"].keys()
    assert "no drift: connect reference_model and reference_clip" in table
    for picture in (chart, sheet):
        assert picture.shape[0] == 1 and picture.shape[-1] == 3 and 0 <= picture.min() < picture.max() <= 1


def test_prompts_keep_their_kinds_and_lose_the_identifier_for_clip_t(plain):
    assert [(entry["kind"], entry["class_text"])
            for entry in plain[1]["prompts"]] == [
        ("places", "a dog in the snow"), ("places", "a dog at night"), ("properties", "a red dog")]


def test_figures_are_those_of_the_pictures(judged):
    _, record, _, _, pictures = judged
    photos = torch.stack([unit(photo.pixels.mean((0, 1)) + 0.01) for photo in subject()[0].photos])
    cosines = unit(pictures.mean((1, 2)) + 0.01) @ photos.T
    wanted = cosines.mean(1).reshape(3, 2).mean(1)
    assert record["figures"]["clip_i"]["values"] == pytest.approx(wanted.tolist(), abs=1e-5)
    grey = (unit(pictures.mean((1, 2)) + 0.01) @ unit(torch.ones(3))).reshape(3, 2).mean(1)
    assert record["figures"]["clip_t"]["values"] == pytest.approx(grey.tolist(), abs=1e-5)
    assert record["figures"]["clip_i"]["mean"] == pytest.approx(float(wanted.mean()), abs=1e-5)


def test_a_model_that_is_its_own_reference_has_not_drifted(judged):
    figures = judged[1]["figures"]
    assert figures["drift_clip"]["values"] == [0, 0] and figures["class_change"]["values"] == [0, 0]


def test_two_runs_compare_and_the_same_model_differs_by_nothing(models, plain, judged):
    again = evaluate(models, image_text=Colours(), reference_model=models[0], reference_clip=models[1], label="again",
                     compare=json.dumps(judged[1]))
    assert torch.equal(again[4], judged[4]) and again[1] == judged[1] | {"label": "again"}
    assert "| again | tiny | difference |" in again[0] and "+0.000" in again[0] and "not comparable" not in again[0]
    other = evaluate(models, compare=json.dumps(plain[1]), seed=6, prompts="a sks dog at night")
    assert "not comparable with tiny: seed 6 here and 5 there" in other[0]
    assert "1 prompts are in both, of 1 here and 3 there" in other[0]


def test_another_identifier_is_drawn_at_the_same_noise_and_pairs_by_the_class_prompt(models, plain):
    table, record, *_ = evaluate(models, prompts="a {V} {noun} at night\nohwx dog", identifier="ohwx",
                                 compare=json.dumps(plain[1]))
    assert [entry["text"] for entry in record["prompts"]] == ["a ohwx dog at night", "ohwx dog"]
    assert record["identifier"] == "ohwx" and "1 prompts are in both" in table


def test_a_list_of_prompts_is_one_evaluation(models):
    record = evaluate(models, prompts=["a sks dog in the snow", "a sad sks dog"], seeds=1, class_pictures=0)[1]
    assert [entry["kind"] for entry in record["prompts"]] == ["recontextualization", "expressions"]
    assert record["figures"] == {} and record["absent"]["diversity"] == "set seeds to 2 or more"


def test_a_model_with_dci_draws_with_its_auxiliary_noun(models, plain):
    model, clip, vae = models
    dual = apply_dci(model, clip)[0]
    pictures = evaluate((dual, clip, vae), auxiliary_noun="cat")[4]
    assert not torch.equal(pictures, plain[4]) and pictures.isfinite().all()
    with pytest.raises(InputError, match="auxiliary_noun: got an empty text for a MODEL with DCI"):
        evaluate((dual, clip, vae))
    with pytest.raises(InputError, match="auxiliary_noun: got 'cat' for a MODEL without DCI"):
        evaluate(models, auxiliary_noun="cat")


def test_the_sheet_grows_with_the_prompts_and_the_global_random_state_stays(models, plain):
    before = torch.get_rng_state()
    sheet = evaluate(models, prompts="a {V} {noun}", class_pictures=0)[3]
    assert sheet.shape[1] < plain[3].shape[1] and sheet.shape[2] == plain[3].shape[2]
    assert torch.equal(before, torch.get_rng_state())


def test_progress_counts_every_step_and_a_cancel_ends_it(models, monkeypatch):
    shown = []
    monkeypatch.setattr(comfy.utils.ProgressBar, "update_absolute",
                        lambda self, value, total=None, preview=None: shown.append((value, total)))
    evaluate(models)
    assert shown[-1] == (16, 16) and sorted(shown) == shown

    def cancel():
        raise comfy.model_management.InterruptProcessingException

    monkeypatch.setattr(comfy.model_management, "throw_exception_if_processing_interrupted", cancel)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        evaluate(models)


@pytest.mark.parametrize(("changes", "message"), [
    ({"prompts": " \n# places\n"}, "prompts: got no prompt, expected one or more lines"),
    ({"prompts": "a dog in the snow"}, "prompts: got 'a dog in the snow', without 'sks'"),
    ({"prompts": "a {V} {class}"}, "prompts: got {class} in 'a {V} {class}', expected only {V} and {noun}"),
    ({"prompts": "a sks dog\na {V} {noun}"}, "prompts: got 'a sks dog' twice"),
    ({"subject": subject() * 2}, "subject: got 2 subjects, expected one subject"),
    ({"subject": ()}, "subject: got 0 subjects"),
    ({"reference_model": object()}, "reference_clip: got nothing, expected both"),
    ({"dino_path": "/nowhere"}, "dino_path: got '/nowhere', where there is no config.json"),
    ({"lpips_path": "/nowhere.pth"}, "lpips_path: got '/nowhere.pth', expected an existing file"),
    ({"compare": "{}"}, "compare: got '{}', expected the json of another"),
    ({"size": 100}, "size: got 100, expected 64 or more pixels, a multiple of 8"),
])
def test_bad_input_is_refused_before_anything_is_drawn(models, monkeypatch, changes, message):
    monkeypatch.setattr("comfy.sample.sample", lambda *args, **kwargs: pytest.fail("it draws"))
    with pytest.raises(InputError) as refusal:
        evaluate(models, **changes)
    assert message in str(refusal.value)


@pytest.mark.parametrize(("changes", "words"), [
    ({}, None), ({"prompts": ""}, "no prompt"), ({"prompts": "{x}"}, "only {V} and {noun}"),
    ({"dino_path": "/nowhere"}, "config.json"), ({"lpips_path": "/nowhere"}, "existing file"),
    ({"prompts": None, "dino_path": None, "lpips_path": None}, None)])
def test_what_is_typed_is_refused_when_the_graph_is_queued(changes, words):
    typed = {"prompts": "a {V} {noun}", "dino_path": "", "lpips_path": ""} | changes
    answer = EvaluatePersonalization.validate_inputs(**{name: [value] for name, value in typed.items()})
    assert answer is True if words is None else words in answer


def test_only_prompts_may_be_a_list(models):
    given = dict(zip(("model", "clip", "vae"), models, strict=True)) | {"subject": subject()} | SETTINGS
    lists = {name: [value] for name, value in given.items()} | {"seed": [1, 2], "prompts": ["a sks dog"]}
    with pytest.raises(InputError, match="seed: got a list of 2, expected one value"):
        run_node(EvaluatePersonalization, **lists)


def test_the_json_has_no_nan(models):
    record = evaluate(models, prompts="a sks dog", image_text=Colours())[1]
    entry = record["figures"]["clip_i"]
    assert entry["low"] is None and math.isfinite(entry["mean"]) and entry["count"] == 1

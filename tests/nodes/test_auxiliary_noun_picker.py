"""Auxiliary Noun Picker on a real ComfyUI model: three ways to a noun, what they cost, and what is kept on disk."""

from __future__ import annotations

import folder_paths
import pytest
import torch
from dci_rig import counted_rows
from run_node import run_node

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.nodes.auxiliary_noun_picker import AuxiliaryNounPicker
from comfyui_personalize.nodes.bridge.dci import noun_evidence
from comfyui_personalize.nodes.bridge.dci.noun_request import MODES

SETTINGS = {"prompt": "a sks dog in the snow", "identifier": "sks", "class_noun": "dog", "mode": "prior",
            "category": "like the class noun", "candidates": "cat, car", "pictures": 2, "seed": 0, "tried": 8,
            "steps": 2, "cfg": 2.0, "size": 64, "sampler": "euler", "scheduler": "normal"}


@pytest.fixture(autouse=True)
def output(tmp_path):
    before = folder_paths.get_output_directory()
    folder_paths.set_output_directory(str(tmp_path))
    yield tmp_path
    folder_paths.set_output_directory(before)


def pick(models, **changes):
    model, clip, vae = models
    return run_node(AuxiliaryNounPicker, **{"model": model, "clip": clip, "vae": vae, **SETTINGS, **changes})


def test_preset_takes_the_first_allowed_noun_and_needs_no_model(models):
    noun, report, sheet = pick((None, models[1], None), mode="preset", candidates="")
    assert noun == "cat" and "horse" in report and sheet.shape[0] == 1 and sheet.shape[-1] == 3


def test_text_ranks_by_the_text_encoder_alone(models):
    noun, report, _ = pick((None, models[1], None), mode="text", candidates="cat, car, teapot")
    assert noun in ("cat", "car", "teapot") and "likeness" in report
    assert pick((None, models[1], None), mode="text", candidates="cat, car, teapot")[0] == noun


def test_prior_draws_measures_and_shows_every_candidate(models):
    noun, report, sheet = pick(models)
    assert noun in ("cat", "car") and sheet.shape[1] > 2 * 160 and sheet.isfinite().all()
    assert all(name in report for name in ("cat", "car", "context", "error"))


def test_prior_costs_its_pictures_and_two_errors_and_nothing_the_second_time(models):
    with counted_rows(models[0]) as calls:
        first = pick(models)
        levels = len(noun_evidence.LEVELS)
        assert sum(calls) == 2 * 2 * (2 * 2 + 2 * levels)  # nouns, pictures, guided steps and errors
        calls.clear()
        second = pick(models)
        assert not calls
    assert first[:2] == second[:2] and torch.equal(first[2], second[2])


def test_other_settings_are_measured_again(models):
    pick(models)
    for change in ({"seed": 1}, {"prompt": "a sks dog at night"}, {"pictures": 3}, {"steps": 3}):
        with counted_rows(models[0]) as calls:
            pick(models, **change)
        assert calls


def test_a_broken_evidence_file_is_measured_again(models, output, caplog):
    first = pick(models)[1]
    for path in (output / noun_evidence.FOLDER).iterdir():
        path.write_bytes(b"broken")
    assert pick(models)[1] == first and "measured again" in caplog.text


def test_errors_are_those_of_a_plain_loop(models):
    model, clip, _ = models
    latents = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        errors = noun_evidence.denoising_errors(model, clip, latents, "a cat in the snow", 7)
        context = clip.encode_from_tokens(clip.tokenize("a cat in the snow"))
        clean = 0.18215 * latents
        signal = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000).double() ** 2, 0)
        for row in range(3):
            noise = torch.randn(4, 8, 8, generator=noun_evidence.generator_for(7, "noun evidence", row))
            for column, level in enumerate(noun_evidence.LEVELS):
                kept = float(signal[round((1 - level) * 999)])
                noisy = kept**0.5 * clean[row] + (1 - kept) ** 0.5 * noise
                timestep = torch.tensor([(1 - level) * 999])
                predicted = model.model.diffusion_model(noisy[None], timestep, context=context)
                expected = (predicted - noise).square().mean()
                assert float(errors[row, column]) == pytest.approx(float(expected), rel=0.02)


class Encoder:
    """Finds the second noun's pictures nearer to their prompt than the first's: texts by length, pictures by order."""

    def __init__(self):
        self.asked = []

    def embed_images(self, pixels):
        assert pixels.shape[-1] == 3 and float(pixels.min()) >= 0 and float(pixels.max()) <= 1
        return torch.eye(2)[:1].expand(len(pixels), 2)

    def embed_texts(self, prompts):
        self.asked.append(prompts)
        rows = {"a cat in the snow": (0.6, 0.8), "a car in the snow": (0.8, 0.6)}
        return torch.tensor([rows.get(prompt, (0.0, 1.0)) for prompt in prompts])


def test_an_image_text_encoder_judges_the_pictures_in_the_models_place(models):
    encoder = Encoder()
    with counted_rows(models[0]) as calls:
        noun, report, _ = pick(models, image_text_encoder=encoder)
    assert noun == "car" and sum(calls) == 2 * 2 * 2 * 2 and "cosines" in report  # no errors are measured
    assert encoder.asked == [["a cat in the snow", "a cat"], ["a car in the snow", "a car"]]
    assert report.splitlines()[2].split() == ["1", "car", "0.8000", "0.8000", "0.8000"]


def test_the_class_noun_and_its_synonyms_are_left_out_and_named(models):
    noun, report, _ = pick(models, mode="preset", candidates="puppy, dogs\ncat")
    assert noun == "cat" and "left out, too near to 'dog': puppy, dogs" in report


@pytest.mark.parametrize(("changes", "message"), [
    ({"candidates": "puppy, hound"}, "candidates: got puppy, hound, expected a noun other than 'dog'"),
    ({"prompt": "a dog in the snow"}, "prompt: got 'a dog in the snow', expected 'sks dog' in it"),
    ({"prompt": "a sks dog"}, "prompt: got 'a sks dog', expected a prompt that says more"),
    ({"identifier": " "}, "identifier: got an empty text"),
    ({"mode": "magic"}, "mode: got 'magic'"),
    ({"model": None}, "model: got nothing, expected a MODEL for the mode 'prior'"),
    ({"vae": None}, "vae: got nothing, expected a VAE for the mode 'prior'"),
    ({"clip": None}, "clip: got nothing"),
])
def test_bad_input_is_refused_before_anything_is_drawn(models, changes, message):
    with counted_rows(models[0]) as calls, pytest.raises(InputError, match=message):
        pick(models, **changes)
    assert not calls


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_gives_a_noun_a_report_and_a_sheet(models, mode):
    noun, report, sheet = pick(models, mode=mode)
    assert noun in ("cat", "car") and f"by {mode}" in report and sheet.ndim == 4

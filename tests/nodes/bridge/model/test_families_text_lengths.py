"""Texts of several lengths in one batch: inside the trainer, every row is predicted as if it were alone."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from families import FAMILIES, TEXT, family_models
from test_families_network import assert_close
from torch import Tensor, nn
from trainer_rig import photos, subjects, train, use_store

from comfyui_personalize.benchmarks.every_family.case import SD3_WIDTH
from comfyui_personalize.core.data.examples import Example, TrainingData, generator_for
from comfyui_personalize.core.learning.adapter import AdapterConfig
from comfyui_personalize.core.model.contracts import Conditioning, TextEncoder
from comfyui_personalize.core.objectives import BasePrior, ObjectSpecificLoss, PriorPreservation
from comfyui_personalize.core.objectives.base import Objective, prepared_data
from comfyui_personalize.core.training.config import TrainingConfig, TrainingOptions
from comfyui_personalize.core.training.loss import compare, loss_terms
from comfyui_personalize.core.training.trainer import Trainer
from comfyui_personalize.core.training.validation import ValidationConfig
from comfyui_personalize.nodes.bridge.model.denoiser import ComfyDenoiser
from comfyui_personalize.nodes.bridge.model.gradients import trainable
from comfyui_personalize.nodes.bridge.text.encoder import ComfyTextEncoder

pytestmark = pytest.mark.usefixtures("inference_mode")
SIDE = 16
"""Latents; at 8 the UNets norm one pixel in the middle, and their gradients are ill-conditioned."""
OPTIONS = TrainingOptions(adapter=AdapterConfig(rank=4, alpha=4.0), max_grad_norm=0)
LONG = "a sks dog, " + "very " * 85 + "far away"
LENGTHS = [("sd15", (77, 154, 231)), ("sdxl", (77, 154, 231)), ("sd3", (12, 154, 267)), ("sd35", (12, 154, 267)),
           ("flux", (256, 313, 256))]
WIDTHS = {"sd15": TEXT, "sdxl": 2 * TEXT, "flux": TEXT}
POOLED = {"sd15": TEXT, "sdxl": TEXT, "flux": TEXT}


@pytest.fixture(scope="module")
def models():
    """MODEL, CLIP and VAE of a family, loaded once."""
    return functools.cache(family_models)


class Texts:
    """Stands for a text encoder: noise of the prompt's own, of the length that its last word says, otherwise 77."""

    module = nn.Module()
    adapter_keys: Mapping[str, str] = {}
    widths: Mapping[str, int] = {}

    def __init__(self, name: str):
        self.width, self.pooled = WIDTHS.get(name, SD3_WIDTH), POOLED.get(name, 2 * TEXT)

    def encode(self, prompts: Sequence[str], vectors: Any = None, pictures: Any = ()) -> list[Conditioning]:
        return [self._encode(prompt, generator_for(0, prompt, 0)) for prompt in prompts]

    def token_rows(self, text: str) -> dict[str, Tensor]:
        return {}

    def _encode(self, prompt: str, generator: torch.Generator) -> Conditioning:
        word = prompt.split()[-1]
        shape = 1, int(word) if word.isdecimal() else 77, self.width
        return Conditioning(torch.randn(shape, generator=generator), torch.randn(1, self.pooled, generator=generator))


def data(name: str, captions: Sequence[str], class_prompt: str) -> TrainingData:
    """A photo of noise for each caption, and two class images."""
    channels = FAMILIES[name].channels
    mask = torch.zeros(1, SIDE, SIDE)
    mask[..., 4:12] = 1
    examples = tuple(Example(latents=torch.randn(channels, SIDE, SIDE, generator=generator_for(0, "photo", number)),
                             caption=caption, object_caption=caption, class_noun="dog", mask=mask)
                     for number, caption in enumerate(captions))
    pool = torch.randn(2, channels, SIDE, SIDE, generator=generator_for(0, "pool", 0))
    return TrainingData(examples=examples, class_latents={"dog": pool}, class_prompts={"dog": class_prompt})


def trainer(model: Any, texts: TextEncoder, photos_of_noise: TrainingData,
            objectives: Sequence[Objective] = (PriorPreservation(), ObjectSpecificLoss()), **others: Any) -> Trainer:
    config = TrainingConfig(steps=1, batch=3, options=OPTIONS, objectives=tuple(objectives), **others)
    held_out = photos_of_noise if config.validation else None
    return Trainer(denoiser=ComfyDenoiser(model, 8 * SIDE), text_encoder=texts, config=config, held_out=held_out,
                   data=prepared_data(objectives, photos_of_noise))


def learned(run: Trainer) -> None:
    """Adapters that change something."""
    with torch.no_grad():
        for number, parameter in enumerate(run.updates.parameters()):
            noise = torch.randn(parameter.shape, generator=generator_for(0, "adapter", number))
            parameter.copy_(0.1 * noise / parameter.shape[-1] ** 0.5)


def predict_alone(run: Trainer, rows: Any, number: int, base: bool = False) -> Tensor:
    """What the network says of one row of a block."""
    one = slice(number, number + 1)
    noisy = run.denoiser.schedule.add_noise(rows.latents[one], rows.noise[one], rows.index[one])
    texts = (run._text.base_rows if base else run._text.rows)(rows.prompts[one])
    return run.denoiser(noisy, rows.index[one], texts)


@pytest.mark.parametrize(("name", "lengths"), LENGTHS)
def test_subject_rows_and_class_images_are_predicted_as_if_alone(models, name, lengths):
    first, *others = lengths
    captions = [f"a sks dog {number} {length}" for number, length in enumerate((first, *others))]
    model = models(name)[0]
    with trainable(model), trainer(model, Texts(name), data(name, captions, f"a dog {first}")) as run, torch.no_grad():
        learned(run)
        blocks = run._draw_rows(0)
        assert {len(rows) for rows in blocks.values()} == {3} and len(blocks) == 3
        for block, prediction in run._predict(blocks).items():
            alone = [predict_alone(run, blocks[block], number) for number in range(3)]
            assert_close(prediction, torch.cat(alone), 1e-5)


@pytest.mark.parametrize(("name", "lengths"), LENGTHS)
def test_the_step_s_gradient_is_that_of_rows_alone(models, name, lengths):
    captions = [f"a sks dog {number} {length}" for number, length in enumerate(lengths)]
    model = models(name)[0]

    def gradient(predict: Any) -> Tensor:
        with trainable(model), trainer(model, Texts(name), data(name, captions, f"a dog {lengths[0]}")) as run:
            learned(run)
            blocks = run._draw_rows(0)
            outcomes = compare(run.config.objectives, run.denoiser.schedule, blocks, predict(run, blocks), {})
            torch.stack(list(loss_terms(run.config.objectives, outcomes).values())).sum().backward()
            return torch.cat([parameter.grad.flatten() for parameter in run.updates.parameters()
                              if parameter.grad is not None])

    def one_by_one(run: Trainer, blocks: Any) -> dict[str, Tensor]:
        return {block: torch.cat([predict_alone(run, rows, number) for number in range(len(rows))])
                for block, rows in blocks.items()}

    assert_close(gradient(Trainer._predict), gradient(one_by_one), 1e-4)


@pytest.mark.parametrize(("name", "lengths"), LENGTHS)
def test_the_base_network_s_rows_and_held_out_photos_are_predicted_as_if_alone(models, name, lengths):
    captions = [f"a sks dog {number} {length}" for number, length in enumerate(lengths)]
    model, judged = models(name)[0], ValidationConfig(draws=2)
    photos_of_noise = data(name, captions, f"a dog {lengths[1]}")
    with (trainable(model), trainer(model, Texts(name), photos_of_noise, [BasePrior()], validation=judged) as run,
          torch.no_grad()):
        blocks = run._draw_rows(0)
        for block, prediction in run._predict_base(blocks).items():
            alone = [predict_alone(run, blocks[block], number, base=True) for number in range(3)]
            assert_close(prediction, torch.cat(alone), 1e-5)
        errors = [(run.denoiser.schedule.target(rows.latents, rows.noise, rows.index)[number]
                   - predict_alone(run, rows, number)).square().mean() for rows in run._held_out for number in (0, 1)]
        assert run.validation_loss() == pytest.approx(float(torch.stack(errors).mean()), rel=1e-5)


@pytest.mark.parametrize("name", ["sd15", "sd3", "flux"])
def test_a_long_caption_beside_a_short_one_costs_no_longer_text(models, name, monkeypatch):
    """With the family's own text encoders, through which a caption of 88 words has another length than 'a dog'."""
    model, clip, _ = models(name)
    tokens = []
    called = model.model.apply_model

    def watched(noisy: Tensor, index: Tensor, **conditions: Any) -> Tensor:
        tokens.append(tuple(conditions["c_crossattn"].shape[:2]))
        return called(noisy, index, **conditions)

    monkeypatch.setattr(model.model, "apply_model", watched)
    encoder = ComfyTextEncoder(clip)
    longest = max(row.context.shape[1] for row in encoder.encode([LONG, "a sks dog", "a dog"]))
    with trainable(model), trainer(model, encoder, data(name, [LONG, "a sks dog", "a sks dog"], "a dog")) as run:
        next(run.steps())
    assert max(length for _, length in tokens) <= longest
    assert sum(rows for rows, _ in tokens) == 9


def test_the_trainer_node_trains_flux_on_captions_over_256_tokens(models, tmp_path, monkeypatch):
    use_store(tmp_path, monkeypatch)
    long = photos(2)
    captions = ("a sks dog, " + "very " * 300 + "far away", "a sks dog")
    given = tuple(type(photo)(pixels=photo.pixels, caption=caption)
                  for photo, caption in zip(long, captions, strict=True))
    losses = train(models("flux"), steps=2, batch=2, subject=subjects(photos=given))[3]["loss"]
    assert all(0 < loss < float("inf") for loss in losses)

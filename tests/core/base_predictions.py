"""Runs whose adapter is not at its start, beside the same by single forwards: the rig of base predictions."""

from __future__ import annotations

import torch
from tiny_unet import TinyDenoiser, photos, trainer, training_config

from comfyui_personalize.core.data.examples import TrainingData, generator_for


def without_pools(*examples):
    return TrainingData(examples=examples or photos())


def learned(run):
    """The trainer with an adapter that changes the network."""
    for number, parameter in enumerate(run.updates.parameters()):
        with torch.no_grad():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator_for(0, "adapter", number)))
    return run


def step_of(objectives, data, is_learned=True, **options):
    """Blocks, first step and gradients of a run whose adapter is not at its start."""
    with trainer(training_config(objectives=objectives, max_grad_norm=0, **options), data) as run:
        if is_learned:
            learned(run)
        blocks = run._draw_rows(0)
        step = next(run.steps())
        return run, blocks, step, gradients(run)


def gradients(run):
    return [parameter.grad.clone() for parameter in run.updates.parameters() if parameter.grad is not None]


def noisy(run, rows, row):
    one = {part: getattr(rows, part)[row:row + 1] for part in ("latents", "noise", "index")}
    return run.denoiser.schedule.add_noise(**one), one["index"]


def base_prediction(run, rows, row, prompt):
    """The untouched network's prediction of one row."""
    with torch.no_grad():
        latents, index = noisy(run, rows, row)
        return TinyDenoiser()(latents, index, run._text.base_rows([prompt]))


def reference(objectives, data, loss_of_row, count, **options):
    """The sum of `loss_of_row` over rows, and its gradients, by single forwards."""
    with trainer(training_config(objectives=objectives, max_grad_norm=0, **options), data) as run:
        learned(run)
        blocks, total = run._draw_rows(0), 0.0
        for row in range(count):
            loss = loss_of_row(run, blocks, row) / count
            loss.backward()
            total += loss.item()
        return total, gradients(run)


def single(run, blocks, row, name, prompt):
    rows = blocks[name]
    latents, index = noisy(run, rows, row)
    prediction = run.denoiser(latents, index, run._text.rows([prompt]))
    return prediction, rows.noise[row:row + 1]


def assert_close(first, second):
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-3)

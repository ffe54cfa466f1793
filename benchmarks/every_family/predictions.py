"""Does the trainer predict what stock sampling sees, alone and in a batch, and are its gradients the loss' slopes?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ...core.learning.adapter import Adapter, AdapterConfig
from ...core.training.gradient_checkpointing import checkpointed, find_blocks
from ...nodes.bridge.model.denoiser import ComfyDenoiser
from ...nodes.bridge.model.gradients import trainable
from .case import noise
from .rig import NOISE_SEED, Rig, relative_error
from .stock import stock_step
from .verdict import NotThere

STEPS = (0.02, 0.005)
"""Lengths of the central difference along the gradient; the better one counts, because a network that routes tokens to
experts jumps where a token changes its expert."""


def prediction_error(rig: Rig) -> float:
    """The trainer's estimate of a clean picture against one step of stock sampling; the larger of two prompts."""
    with trainable(rig.model):
        own = [rig.own_step(row) for row in rig.rows]
    expected = [stock_step(rig.model, entry, rig.latent, rig.sigma, NOISE_SEED) for entry in rig.entries]
    return max(relative_error(*pair) for pair in zip(own, expected, strict=True))


def mixed_text_error(rig: Rig) -> float:
    """Rows of a batch of two texts against each row alone."""
    if rig.case.lengths[0] == rig.case.lengths[1]:
        raise NotThere(f"every prompt has the same number of tokens ({rig.entries[0][0].shape[1]})")
    with trainable(rig.model), torch.no_grad():
        denoiser, rows = rig.denoiser(), rig.rows
        noisy, levels = noise(2, *rig.latents.shape, seed=2), torch.tensor([rig.index] * 2)
        both = denoiser(noisy, levels, rows)
        alone = [denoiser(noisy[n:n + 1], levels[n:n + 1], rows[n:n + 1]) for n in (0, 1)]
    return max(relative_error(both[n:n + 1], alone[n]) for n in (0, 1))


def gradient_error(rig: Rig) -> float:
    """Autograd's slope along the gradient of a random adapter against central differences; the larger of with and
    without checkpointing by block."""
    with trainable(rig.model):
        denoiser = rig.denoiser()
        errors = []
        for blocks in ([], find_blocks(denoiser.module)):
            with random_adapter(denoiser) as adapter, checkpointed(blocks):
                errors.append(_slope_error(_loss(rig, denoiser), adapter.parameters()))
    return max(errors)


@contextmanager
def random_adapter(denoiser: ComfyDenoiser, scale: float = 0.1) -> Iterator[Adapter]:
    """Within the context an adapter that changes something is in every attention layer."""
    with Adapter(denoiser.module, AdapterConfig(rank=4, alpha=4.0), seed=1) as adapter:
        with torch.no_grad():
            for number, parameter in enumerate(adapter.parameters()):
                parameter.copy_(scale * noise(*parameter.shape, seed=number) / parameter.shape[-1] ** 0.5)
        yield adapter


def _loss(rig: Rig, denoiser: ComfyDenoiser) -> Callable[[], Tensor]:
    noisy, target = (noise(1, *rig.latents.shape, seed=seed) for seed in (3, 4))
    row, level = rig.rows[:1], torch.tensor([rig.index])
    return lambda: (denoiser(noisy, level, row) - target).square().mean()


def _slope_error(loss: Callable[[], Tensor], parameters: list[torch.nn.Parameter]) -> float:
    loss().backward()
    pairs = [(parameter, parameter.grad) for parameter in parameters
             if parameter.grad is not None and bool(parameter.grad.any())]
    reached, gradients = [parameter.data for parameter, _ in pairs], [gradient for _, gradient in pairs]
    _check_unread(loss, [parameter for parameter in parameters if parameter.grad is None or not parameter.grad.any()])
    norm = float(torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt())

    def moved(step: float) -> float:
        with torch.no_grad():
            torch._foreach_add_(reached, gradients, alpha=step / norm)
            value = float(loss())
            torch._foreach_sub_(reached, gradients, alpha=step / norm)
        return value

    return min(abs((moved(step) - moved(-step)) / (2 * step * norm) - 1) for step in STEPS)


@torch.no_grad()
def _check_unread(loss: Callable[[], Tensor], parameters: list[torch.nn.Parameter]) -> None:
    """Tensors without a gradient must be those that change nothing, such as the last block's text in Qwen-Image."""
    before = loss()
    for parameter in parameters:
        parameter.mul_(2)
    if parameters and not torch.equal(loss(), before):
        raise ArithmeticError(f"some of {len(parameters)} tensors without a gradient change the loss")
    for parameter in parameters:
        parameter.div_(2)

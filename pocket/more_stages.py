"""The stages that come along: image-text encoder and upscaler. They rely on finished networks and change none."""

from __future__ import annotations

import functools
import logging
from typing import Final

import torch
from torch import Tensor

from .batches import stream
from .device import Machine
from .generator import Generator
from .image_text_training import (
    EncoderBatch,
    ImageTextEncoder,
    digest,
    encoder_batch,
    encoder_loss,
    fixed_prompts,
    pooled,
    read_nouns,
)
from .learner import Learner, load_average
from .sitting import Plan, run, take_up
from .stages import load_autoencoder, step_noise, through
from .state import freeze, load_state
from .text import TextEncoder

log = logging.getLogger(__name__)

ENCODER_RATE: Final = 1.5e-3
UPSCALER_RATE: Final = 6e-4


def frozen_text(plan: Plan) -> TextEncoder:
    """The averaged text encoder of the state's generator.

    Raises:
        SystemExit: there is none.
    """
    state = load_state(plan.path)
    if "generator" not in state:
        raise SystemExit(f"encoder: got a state without a generator in {plan.path}, expected one: it reads captions "
                         "with the generator's text encoder. Train the generator first")
    text: TextEncoder = load_average(Generator(), state["generator"]).text  # type: ignore[assignment]
    return text


def train_encoder(plan: Plan, machine: Machine) -> None:
    """Image tower and projections, on the generator's text encoder.

    The last sitting freezes generator and decoder: another text encoder would be another space.
    """
    text = machine.place(frozen_text(plan))
    if plan.is_last:
        freeze(plan.path, "autoencoder", "judge", "generator", "decoder")
    torch.manual_seed(2)
    network, autoencoder = machine.place(ImageTextEncoder()), load_autoencoder(plan.path, machine)
    learner = take_up("encoder", Learner(network, peak=ENCODER_RATE, warm_up=150, decay=0.998), plan.path)
    if learner.step and network.trained_with != float(digest(text)):
        log.warning("encoder: the text encoder is another one than in the last sitting; the projections learn on")
    network.text_digest.copy_(digest(text))
    prompts, check = fixed_prompts(text), to_machine(encoder_batch(10**6, 256), machine)

    def loss_of(batch: EncoderBatch, step: int) -> Tensor:
        batch = to_machine(batch, machine)
        pictures, (_, draws) = machine.pictures(batch.pictures), step_noise((1,), step, 8, machine.device)
        with machine.autocast():
            coded = slice(step % 3, None, 3)
            pictures[coded] = through(autoencoder, pictures[coded], 0.15, draws).float()
            gain = 1 + 0.08 * torch.randn(len(pictures), 3, 1, 1, generator=draws, device=machine.device)
            images = network.embed_images((pictures * gain).clamp(0, 1))
        return encoder_loss(network, images, pooled(text, batch.rows), batch, prompts)

    @torch.no_grad()
    def look() -> str:
        learner.swap_average()
        images = network.embed_images(machine.pictures(check.pictures))
        share = read_nouns(network, images, check, prompts)
        learner.swap_average()
        return f"noun of one thing among all {share:.3f}"

    make = functools.partial(encoder_batch, batch=plan.batch)
    run("encoder", learner, plan, stream(make, learner.step // plan.reuse, machine.workers, machine.is_cuda),
        loss_of, look)


def to_machine(batch: EncoderBatch, machine: Machine) -> EncoderBatch:
    """The batch on the device; pictures stay bytes."""
    return EncoderBatch(*map(machine.send, batch))


def train_upscaler(plan: Plan, machine: Machine) -> None:
    """The x4 upscaler. The last sitting freezes what is finished, for room."""
    try:
        from .upscaler import new_upscaler, upscaler_batch, upscaler_decibels, upscaler_loss
    except ImportError as error:
        log.warning("upscaler: left out, for it needs diffusers (%s)", error)
        return
    if plan.is_last:
        freeze(plan.path, "autoencoder", "judge", "generator", "decoder", "encoder")
    network = machine.place(new_upscaler())
    learner = take_up("upscaler", Learner(network, peak=UPSCALER_RATE, warm_up=100), plan.path)
    check = [machine.send(part) for part in upscaler_batch(10**6, 16)]

    def loss_of(batch: tuple[Tensor, Tensor, Tensor], step: int) -> Tensor:
        _, draws = step_noise((1,), step, 9, machine.device)
        with machine.autocast():
            return upscaler_loss(network, tuple(map(machine.send, batch)), draws)

    @torch.no_grad()
    def look() -> str:
        learner.swap_average()
        found, bicubic = upscaler_decibels(network, tuple(check), step_noise((1,), 0, 11, machine.device)[1])
        learner.swap_average()
        return f"one-step estimate {found:.2f} dB, bicubic {bicubic:.2f} dB"

    make = functools.partial(upscaler_batch, batch=plan.batch)
    run("upscaler", learner, plan, stream(make, learner.step // plan.reuse, machine.workers, machine.is_cuda),
        loss_of, look)

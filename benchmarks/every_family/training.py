"""A dozen steps of the real Trainer on one picture: what is learned, whether a cut run goes on exactly, what the file
gives in stock nodes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from ...core.data.examples import Example, TrainingData
from ...core.learning.adapter import AdapterConfig
from ...core.training.config import TrainingConfig, TrainingOptions
from ...core.training.trainer import Trainer
from ...core.training.validation import ValidationConfig
from ...nodes.bridge.model.gradients import trainable
from .rig import CAPTION, NOISE_SEED, Prompts, Rig, relative_error
from .stock import matched_layers, stock_step, with_lora

STEPS = 12
CUT = 6
LEAST_CHANGE = 1e-3
"""An adapter that changes the picture by less says nothing of how it is loaded."""


def train(rig: Rig) -> dict[str, Any]:
    """The figures of a run: loss_ratio, resume_exact, lora_keys, lora_error."""
    with trainable(rig.model):
        with trainer_of(rig) as trainer:
            before, saved = trainer.validation_loss(), b""
            for step in trainer.steps():
                saved = saved_state(trainer) if step.step == CUT else saved
            ratio, own, file = trainer.validation_loss() / before, rig.own_step(rig.rows[0]), trainer.export().adapter
        with trainer_of(rig) as other:
            load_state(other, saved)
            for _ in other.steps():
                pass
            resumed = other.export().adapter
    found, layers = matched_layers(rig.model, file)
    return {"loss_ratio": ratio, "resume_exact": is_same(file, resumed), "lora_keys": f"{found}/{layers}",
            "lora_error": lora_error(rig, file, own)}


def trainer_of(rig: Rig) -> Trainer:
    """The real Trainer on one photo, at a rate at which a dozen steps are seen in the loss."""
    options = TrainingOptions(adapter=AdapterConfig(rank=8, alpha=8.0), precision="fp32",
                              gradient_checkpointing="off")
    return trainer_on(rig, TrainingConfig(steps=STEPS, learning_rate=1e-2, batch=1, resolution=64, seed=1,
                                          options=options, validation=ValidationConfig(draws=4)))


def trainer_on(rig: Rig, config: TrainingConfig, captions: Sequence[str] = (CAPTION,)) -> Trainer:
    """The real Trainer on the rig's picture under each caption; where the configuration validates, they are held out
    too, so that the loss before and after is at the same noise."""
    data = TrainingData(examples=tuple(Example(latents=rig.latents, caption=caption, object_caption=caption,
                                               class_noun="dog", identifier="sks") for caption in captions))
    return Trainer(denoiser=rig.denoiser(), text_encoder=Prompts(rig), data=data,
                   held_out=data if config.validation else None, config=config)


def saved_state(trainer: Trainer) -> bytes:
    """All of a run's state as bytes, as a file has it."""
    tensors, values = trainer.state()
    return save({name: tensor.contiguous() for name, tensor in tensors.items()}, {"values": json.dumps(values)})


def load_state(trainer: Trainer, saved: bytes) -> None:
    """Go on from those bytes."""
    size = int.from_bytes(saved[:8], "little")
    values = json.loads(json.loads(saved[8:8 + size])["__metadata__"]["values"])
    trainer.load_state(load(saved), values)


def is_same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """Same names, bitwise same tensors."""
    return first.keys() == second.keys() and all(
        first[name].numpy().tobytes() == second[name].numpy().tobytes() for name in first)


def lora_error(rig: Rig, file: Mapping[str, Tensor], own: Tensor) -> float:
    """The trainer's own picture, with the adapter in the network, against stock sampling with the file loaded."""
    plain, loaded = (stock_step(model, rig.entries[0], rig.latent, rig.sigma, NOISE_SEED)
                     for model in (rig.model, with_lora(rig.model, file)))
    if relative_error(loaded, plain) < LEAST_CHANGE:
        raise ArithmeticError(f"the file changes the picture by {relative_error(loaded, plain):.0e} only")
    return relative_error(own, loaded)

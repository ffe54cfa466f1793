"""How a training step goes: batch, noise, predict, loss, backward, step.

The loop is a generator that knows no user interface: it yields after every optimiser step, and between two
steps its owner shows progress, previews, saves or stops. All randomness is a function of (seed, stream,
micro-step), so that a step is the same whatever happened around it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from .adapter import Adapter, make_adapters
from .checkpointing import checkpointed, find_blocks, is_needed, measure_activation_bytes
from .conditioning import Conditioning, Denoiser, TextEncoder, concat_rows
from .config import TrainingConfig
from .data import Exposure, TrainingData, draw_subject_rows, exposure, generator_for
from .errors import TrainingDiverged
from .objectives import PriorPreservation
from .optimizer import make_lr_scheduler, make_optimizer, optimizer_tensors, restore_optimizer
from .rows import Rows, stack

SUBJECT, DENOISER, TEXT_ENCODER = "subject", "denoiser", "text_encoder"


@dataclass(frozen=True)
class TrainingStep:
    """What one optimiser step did.

    Attributes:
        step: its number, from 1.
        loss: the sum of the terms.
        terms: "subject" and each objective's own, the mean over the micro-steps.
        learning_rate: what the step used.
    """

    step: int
    loss: float
    terms: dict[str, float]
    learning_rate: float


class Trainer:
    """Trains adapters in a loaded network; as a context manager it puts them in, and always takes them out.

    Args:
        denoiser: the loaded network; its own weights are not changed.
        text_encoder: encodes every prompt once, or in every micro-step where its adapter trains too.
        data: photos and class images as latents.
        config: everything the user chose.
        free_bytes: free memory, by which gradient checkpointing "auto" decides; None decides against it.

    Raises:
        InputError: an objective cannot be used with the data.
    """

    def __init__(self, *, denoiser: Denoiser, text_encoder: TextEncoder, data: TrainingData,
                 config: TrainingConfig, free_bytes: int | None = None):
        for objective in config.objectives:
            objective.check(data)
        if not any(isinstance(objective, PriorPreservation) for objective in config.objectives):
            data = replace(data, class_latents={}, class_prompts={})
        self.denoiser, self.text_encoder, self.data, self.config = denoiser, text_encoder, data, config
        self.step = 0
        self.is_updating = False  # true after an error inside an update: weights and step count do not agree
        self.losses: list[float] = []
        self._free_bytes = free_bytes
        self._adapters: dict[str, Adapter] = {}
        self._cached_text: dict[str, Conditioning] = {}
        self._recomputed_blocks: list[nn.Module] = []

    def __enter__(self) -> Trainer:
        try:
            if not self._adapters:
                self._start()
            self.inject()
        except BaseException:
            self.eject()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.eject()

    # The loop

    def steps(self) -> Iterator[TrainingStep]:
        """Train from `self.step` up to `config.steps`, yielding after each optimiser step.

        Raises:
            TrainingDiverged: the loss or a gradient is NaN or infinite; the last step's weights stay.
        """
        while self.step < self.config.steps:
            yield self._train_step()

    @torch.inference_mode(False)
    @torch.enable_grad()
    def _train_step(self) -> TrainingStep:
        accumulation = self.config.options.accumulation
        losses = []
        self.optimizer.zero_grad(set_to_none=True)
        for micro_step in range(self.step * accumulation, (self.step + 1) * accumulation):
            blocks = self._draw_rows(micro_step)  # batch and noise
            with checkpointed(self._recomputed_blocks):
                squared_error = self._squared_error(stack(blocks.values()))  # predict: one forward
                terms = self._loss_terms(blocks, squared_error)
                (torch.stack(list(terms.values())).sum() / accumulation).backward()
            losses.append({name: term.detach() for name, term in terms.items()})
        return self._optimizer_step(losses)

    def _draw_rows(self, micro_step: int) -> dict[str, Rows]:
        """The subject's B rows, then the rows of each objective that adds some."""
        seed, levels = self.config.seed, len(self.denoiser.schedule)
        subject = draw_subject_rows(self.data, levels, seed, micro_step, self.config.batch)
        blocks = {SUBJECT: subject}
        for objective in self.config.objectives:
            generator = generator_for(seed, objective.kind, micro_step)
            rows = objective.extra_rows(subject, self.data, levels, generator)
            if rows is not None:
                blocks[objective.kind] = rows
        return {name: rows.to(self.denoiser.device) for name, rows in blocks.items()}

    def _squared_error(self, rows: Rows) -> Tensor:
        """(target - prediction)² of every row, (N, C, h, w), in the network's own prediction space."""
        schedule = self.denoiser.schedule
        noisy = schedule.add_noise(rows.latents, rows.noise, rows.index)
        with torch.autocast(self.denoiser.device.type, torch.bfloat16, enabled=self._is_bf16):
            prediction = self.denoiser(noisy, rows.index, self._text(rows.prompts))
        return (schedule.target(rows.latents, rows.noise, rows.index) - prediction.float()).square()

    def _text(self, prompts: Sequence[str]) -> Conditioning:
        """One row per prompt: from the cache, or with a graph where the text encoder trains."""
        rows = self._cached_text
        if TEXT_ENCODER in self._adapters:
            distinct = tuple(dict.fromkeys(prompts))
            rows = dict(zip(distinct, self.text_encoder.encode(distinct), strict=True))
        return concat_rows([rows[prompt] for prompt in prompts])

    def _loss_terms(self, blocks: Mapping[str, Rows], squared_error: Tensor) -> dict[str, Tensor]:
        """The mean over the subject rows times every pixel weight, and each objective's own term."""
        errors = dict(zip(blocks, squared_error.split([len(rows) for rows in blocks.values()]), strict=True))
        for objective in self.config.objectives:
            weight = objective.pixel_weight(blocks[SUBJECT])
            if weight is not None:
                errors[SUBJECT] = weight * errors[SUBJECT]
        terms = {SUBJECT: errors[SUBJECT].mean()}
        for objective in self.config.objectives:
            if objective.kind in blocks:
                terms[objective.kind] = objective.term(errors[objective.kind], blocks[objective.kind])
        return terms

    def _optimizer_step(self, losses: Sequence[Mapping[str, Tensor]]) -> TrainingStep:
        max_norm = self.config.options.max_grad_norm or math.inf
        norm = nn.utils.clip_grad_norm_(self._parameters(), max_norm)
        means = [torch.stack([terms[name] for terms in losses]).mean() for name in losses[0]]
        *values, grad_norm = torch.stack([*means, norm]).tolist()  # the step's only wait for the device
        if not all(map(math.isfinite, [*values, grad_norm])):
            raise TrainingDiverged(
                f"step {self.step + 1}: got a loss of {sum(values):g} and a gradient norm of {grad_norm:g}, "
                f"expected finite numbers. Lower the learning rate, or use fp32; the weights of step "
                f"{self.step} are kept.")
        learning_rate = float(self.lr_scheduler.get_last_lr()[0])
        self.is_updating = True
        self.optimizer.step()
        self.lr_scheduler.step()
        self.step += 1
        self.losses.append(sum(values))
        self.is_updating = False
        terms = dict(zip(losses[0], values, strict=True))
        return TrainingStep(self.step, self.losses[-1], terms, learning_rate)

    # Around previews, and at the end

    def eject(self) -> None:
        """The network and the text encoder as they were."""
        for adapter in self._adapters.values():
            adapter.eject()

    def inject(self) -> None:
        """The same adapters back in."""
        for adapter in self._adapters.values():
            adapter.inject()

    def export(self) -> dict[str, Tensor]:
        """The adapters under the keys of adapter files."""
        tensors: dict[str, Tensor] = {}
        for name, adapter in self._adapters.items():
            tensors |= adapter.export(self._trained()[name].adapter_keys)
        return tensors

    def exposure(self) -> Exposure:
        """How often each photo and class image has been seen so far."""
        micro_steps = self.step * self.config.options.accumulation
        return exposure(self.data, self.config.seed, micro_steps, self.config.batch)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that an exact continuation needs: tensors, and values that JSON keeps exactly."""
        tensors = {f"{name}.{key}": tensor for name, adapter in self._adapters.items()
                   for key, tensor in adapter.state_dict().items()}
        optimizer, groups = optimizer_tensors(self.optimizer)
        tensors |= {f"optimizer.{key}": tensor for key, tensor in optimizer.items()}
        return tensors, {"step": self.step, "losses": list(self.losses), "param_groups": groups,
                         "lr_scheduler": self.lr_scheduler.state_dict()}

    def load_state(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Continue from what `state` gave; call it once the trainer is entered.

        Raises:
            InputError: the state is of another model or adapter.
        """
        for name, adapter in self._adapters.items():
            adapter.load_state_dict(_below(name, tensors))
        restore_optimizer(self.optimizer, _below("optimizer", tensors), meta["param_groups"])
        self.lr_scheduler.load_state_dict(dict(meta["lr_scheduler"]))
        self.step, self.losses = int(meta["step"]), list(meta["losses"])

    # Starting

    @torch.inference_mode(False)
    def _start(self) -> None:
        options = self.config.options
        if not options.text_encoder_rate:
            self._cached_text = self._encode_all()
        self._adapters = make_adapters(self._trained(), options.adapter, self.config.seed)
        if self._is_bf16:
            for adapter in self._adapters.values():
                adapter.leave_casts_to_autocast()
        rates = {DENOISER: self.config.learning_rate, TEXT_ENCODER: options.text_encoder_rate}
        groups = [{"params": adapter.parameters(), "lr": rates[name]}
                  for name, adapter in self._adapters.items()]
        self.optimizer = make_optimizer(options.optimizer, groups)
        self.lr_scheduler = make_lr_scheduler(options.lr_schedule, self.optimizer, options.warmup_steps,
                                              self.config.steps)
        if self._is_checkpointing():
            self._recomputed_blocks = find_blocks(self.denoiser.module)  # text encoders are small

    @torch.no_grad()
    def _encode_all(self) -> dict[str, Conditioning]:
        """Every prompt once; copies, for an encoder may hand out inference tensors that no graph can keep."""
        prompts = self.data.prompts()
        return {prompt: row.copy_to(self.denoiser.device)
                for prompt, row in zip(prompts, self.text_encoder.encode(prompts), strict=True)}

    def _is_checkpointing(self) -> bool:
        switch = self.config.options.gradient_checkpointing
        if switch != "auto" or self._free_bytes is None:
            return switch == "on"
        rows = stack(self._draw_rows(0).values())
        row_bytes = measure_activation_bytes(lambda: self._squared_error(rows.first()))
        return is_needed(len(rows) * row_bytes, self._free_bytes)

    def _trained(self) -> dict[str, Denoiser | TextEncoder]:
        text = {TEXT_ENCODER: self.text_encoder} if self.config.options.text_encoder_rate else {}
        return {DENOISER: self.denoiser, **text}

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for adapter in self._adapters.values() for parameter in adapter.parameters()]

    @property
    def _is_bf16(self) -> bool:
        if self.config.options.precision == "auto":
            return self.denoiser.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return self.config.options.precision == "bf16"


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix.`, without it."""
    start = f"{prefix}."
    return {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}

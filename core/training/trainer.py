"""How a training step goes: batch, noise, predict, loss, backward, step.

The loop is a generator that knows no user interface: it yields after every optimiser step, and between two
steps its owner shows progress, previews, saves or stops. All randomness is a function of (seed, stream,
micro-step), so that a step is the same whatever happened around it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import noop_context_fn

from ..data.batch import Rows, stack
from ..data.examples import TrainingData, generator_for
from ..data.noise import NoiseSource
from ..data.order import Exposure, draw_subject_rows, exposure
from ..errors import TrainingDiverged, require
from ..learning.adapter import RankByTimestep
from ..learning.token_vectors import TokenVectors
from ..learning.trainable import Artifacts
from ..model.contracts import Conditioning, Denoiser, TextEncoder, WordVectors
from ..model.image_text import ImageTextEncoder
from ..objectives.base import TextView, most_rows
from .config import TrainingConfig
from .divergence import loss_of_zeros
from .gradient_checkpointing import Contexts, checkpointed, find_blocks, is_needed, measure_kept
from .loss import SUBJECT, compare, loss_terms, text_terms, wants_base
from .memory_plan import MemoryPlan
from .prediction import is_bf16, predict
from .prompt_encodings import TextSide
from .trained_parameters import (
    DENOISER,
    RANKS,
    TEXT_ENCODER,
    TOKEN_VECTORS,
    Trainables,
    leave_casts_to_autocast,
    make_trainables,
)
from .updates import Updates
from .validation import validation_rows


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
    """Trains what is put into loaded models; as a context manager it puts them in, and always takes them out.

    Args:
        denoiser: the loaded network; its own weights are not changed.
        text_encoder: encodes every prompt once, or in every micro-step where something of it trains.
        data: photos and class images as latents, as `objectives.base.prepared_data` gives them.
        config: everything the user chose.
        held_out: photos for `validation_loss` alone.
        free_bytes: free memory, by which gradient checkpointing "auto" decides; None decides against it.
        memory_plan: what has been decided already, by an estimate; None = nothing has.
        starts: first vectors of learned vectors whose start is "given".
        image_text: the joint space of images and texts, for objectives that want it.
    """

    def __init__(self, *, denoiser: Denoiser, text_encoder: TextEncoder, data: TrainingData,
                 config: TrainingConfig, held_out: TrainingData | None = None, free_bytes: int | None = None,
                 memory_plan: MemoryPlan | None = None,
                 starts: WordVectors | None = None, image_text: ImageTextEncoder | None = None):
        needs_image_text = any(objective.needs_image_text for objective in config.objectives)
        require(not needs_image_text or image_text is not None, "image_text", "nothing", "an image-text encoder",
                "Pass the one that an objective needs.")
        self.denoiser, self.text_encoder, self.data, self.config = denoiser, text_encoder, data, config
        self.step = 0
        self.is_updating = False  # true after an error inside an update: weights and step count do not agree
        self.losses: list[float] = []
        self._change = (-1, 0.0)  # the step at which `relative_change` was last measured, and what it was
        self._source = NoiseSource(denoiser.schedule, config.objectives)
        self._starts, self._image_text = starts or {}, image_text
        self._free_bytes, self.memory_plan = free_bytes, memory_plan
        draws = config.validation.draws if config.validation else 1
        self._held_out = validation_rows(held_out, len(denoiser.schedule), draws) if held_out else []
        self._trainables: Trainables = {}
        self._recomputed_blocks: list[nn.Module] = []
        self._recomputation: Contexts = noop_context_fn

    def __enter__(self) -> Trainer:
        try:
            if not self._trainables:
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
        accumulation, objectives = self.config.options.accumulation, self.config.objectives
        losses = []
        self.updates.optimizer.zero_grad(set_to_none=True)
        for micro_step in range(self.step * accumulation, (self.step + 1) * accumulation):
            blocks = self._draw_rows(micro_step)  # batch and noise
            bases = self._predict_base(blocks)
            with checkpointed(self._recomputed_blocks, self._recomputation):
                outcomes = compare(objectives, self.denoiser.schedule, blocks, self._predict(blocks), bases)
                terms = loss_terms(objectives, outcomes)
                on_words = text_terms(objectives, self._text_view, self.data, self.config.seed, micro_step)
                terms |= {name: term.to(self.denoiser.device) for name, term in on_words.items()}
                loss = torch.stack(list(terms.values())).sum() / accumulation
                if loss.requires_grad:  # not so where only token vectors learn, and no prompt has their word
                    loss.backward()
            losses.append({name: term.detach() for name, term in terms.items()})
        return self._optimizer_step(losses)

    def _draw_rows(self, micro_step: int) -> dict[str, Rows]:
        """The subject's B rows, then the rows of each objective that adds some."""
        seed = self.config.seed
        subject = draw_subject_rows(self.data, self._source, seed, micro_step, self.config.batch)
        blocks: dict[str, Rows] = {SUBJECT: subject}
        for objective in self.config.objectives:
            generator = generator_for(seed, objective.kind, micro_step)
            rows = objective.extra_rows(subject, self.data, self._source, generator)
            if rows is not None:
                blocks[objective.kind] = rows
        return {name: rows.to(self.denoiser.device) for name, rows in blocks.items()}

    def _predict(self, blocks: Mapping[str, Rows], is_base: bool = False) -> dict[str, Tensor]:
        """What the network puts out for every block, in one forward for all latents of one shape, where it can.

        Args:
            is_base: whether the texts are those that the untouched text encoder reads.
        """
        encode = self._text.base_rows if is_base else self._text.rows
        predictions: dict[str, Tensor] = {}
        for shape in dict.fromkeys(rows.latents.shape[1:] for rows in blocks.values()):
            names = [name for name, rows in blocks.items() if rows.latents.shape[1:] == shape]
            rows = stack(blocks[name] for name in names)
            prediction = self._denoise(rows, encode(rows.prompts, rows.references))
            parts = prediction.split([len(blocks[name]) for name in names])
            predictions |= dict(zip(names, parts, strict=True))
        return predictions

    @torch.no_grad()
    def _predict_base(self, blocks: Mapping[str, Rows]) -> dict[str, Tensor]:
        """Base predictions, for the blocks that want them."""
        wanted = {name: rows for name, rows in blocks.items() if wants_base(self.config.objectives, name, rows)}
        if not wanted:
            return {}
        self.eject()
        try:
            return self._predict(wanted, is_base=True)
        finally:
            self.inject()

    def _denoise(self, rows: Rows, texts: Sequence[Conditioning]) -> Tensor:
        """The prediction (N, C, h, w) for the noisy rows, in the network's own prediction space."""
        with torch.autocast(self.denoiser.device.type, torch.bfloat16, enabled=self._is_bf16):
            return predict(self.denoiser, rows, texts)

    def _optimizer_step(self, losses: Sequence[Mapping[str, Tensor]]) -> TrainingStep:
        norm = self.updates.clip().to(self.denoiser.device)  # token vectors may be on another one
        names = dict.fromkeys(name for terms in losses for name in terms)  # not every batch has every term
        none = torch.zeros_like(losses[0][SUBJECT])
        means = [torch.stack([terms.get(name, none) for terms in losses]).mean() for name in names]
        *values, grad_norm = torch.stack([*means, norm]).tolist()  # the step's only wait for the device
        if not all(map(math.isfinite, [*values, grad_norm])):
            raise TrainingDiverged(
                f"step {self.step + 1}: got a loss of {sum(values):g} and a gradient norm of {grad_norm:g}, "
                f"expected finite numbers. Lower the learning rate, or use fp32; the weights of step "
                f"{self.step} are kept.")
        learning_rate = self.updates.learning_rate
        self.is_updating = True
        self.updates.apply()
        self.step += 1
        self.losses.append(sum(values))
        self.is_updating = False
        terms = dict(zip(names, values, strict=True))
        return TrainingStep(self.step, self.losses[-1], terms, learning_rate)

    # Around previews, and at the end

    def eject(self) -> None:
        """The network and the text encoder as they were."""
        for trainable in self._trainables.values():
            trainable.eject()

    def inject(self) -> None:
        """Everything that trains back in."""
        for trainable in self._trainables.values():
            trainable.inject()

    def export(self) -> Artifacts:
        """What was learned (the averages, where they are kept), under the keys of files that other programs read."""
        tensors: dict[str, Tensor] = {}
        with self.updates.averaged():
            for name, owner in self._owners().items():
                if name in self._trainables:
                    tensors |= self._trainables[name].export(owner.adapter_keys)  # type: ignore[attr-defined]
            learned = self._trainables.get(TOKEN_VECTORS)
            if not isinstance(learned, TokenVectors):
                return Artifacts(adapter=tensors)
            return Artifacts(adapter=tensors, token_vectors=learned.export(contexts=False),
                             contexts=learned.export(contexts=True))

    @cached_property
    def loss_of_zeros(self) -> float:
        """The loss that no network which knows anything reaches, for `divergence`."""
        return loss_of_zeros(self.config.objectives, self.denoiser.schedule, self._draw_rows)

    def relative_change(self) -> float:
        """||dW|| / ||W|| of the median layer that trains in the network or the text encoder; 0 where none does.

        Measured once at each step that asks for it: it reads every weight that trains."""
        step, change = self._change
        if step != self.step:
            changes = [change for name in self._owners() if name in self._trainables
                       for change in self._trainables[name].relative_changes()]  # type: ignore[attr-defined]
            change = median(changes) if changes else 0.0
            self._change = (self.step, change)
        return change

    @property
    def is_validated(self) -> bool:
        """Whether there are held-out photos."""
        return bool(self._held_out)

    @torch.inference_mode(False)
    @torch.no_grad()
    def validation_loss(self) -> float:
        """Eq. 1 on the held-out photos at fixed noise and levels, by what `export` gives.

        Raises:
            ValueError: the trainer was given no held-out photos.
        """
        if not self._held_out:
            raise ValueError("held_out: got no photos, expected 1 or more; pass them to the trainer")
        losses = []
        with self.updates.averaged():
            for rows in (rows.to(self.denoiser.device) for rows in self._held_out):
                target = self.denoiser.schedule.target(rows.latents, rows.noise, rows.index)
                prediction = self._denoise(rows, self._text.rows(rows.prompts, rows.references))
                losses.append((target - prediction).square().mean())
        return float(torch.stack(losses).mean())

    def exposure(self) -> Exposure:
        """How often each photo and class image has been seen so far."""
        micro_steps = self.step * self.config.options.accumulation
        return exposure(self.data, self.config.seed, micro_steps, self.config.batch)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that an exact continuation needs: tensors, and values that JSON keeps exactly."""
        tensors, values = self.updates.state()
        return tensors, {"step": self.step, "losses": list(self.losses), **values}

    def load_state(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Continue from what `state` gave; call it once the trainer is entered.

        Raises:
            InputError: the state is of another model or adapter.
        """
        self.updates.load_state(tensors, meta, int(meta["step"]))
        self.step, self.losses = int(meta["step"]), list(meta["losses"])

    # Starting

    @torch.inference_mode(False)
    def _start(self) -> None:
        prompts = dict.fromkeys((*self.data.prompts(), *(text for rows in self._held_out for text in rows.prompts)))
        held_out = [(prompt, shown) for rows in self._held_out
                    for prompt, shown in zip(rows.prompts, rows.references, strict=False) if shown and shown.pictures]
        self._text = TextSide(self.text_encoder, tuple(prompts), self.denoiser.device,
                              base_prompts=self.data.base_prompts,
                              with_references=(*self.data.prompts_with_references(), *held_out))
        self._trainables = make_trainables(self._owners(), self.config, self.data, self.text_encoder, self._starts,
                                            self.denoiser.schedule)
        ranks = self._trainables.get(RANKS)
        self._recomputation = ranks.recomputation if isinstance(ranks, RankByTimestep) else noop_context_fn
        learned = self._trainables.get(TOKEN_VECTORS)
        self._text.token_vectors = learned if isinstance(learned, TokenVectors) else None
        self._text.is_trained = TEXT_ENCODER in self._trainables
        if self._is_bf16:
            leave_casts_to_autocast(self._trainables)
        self.updates = Updates(self._trainables, self.config)
        if self._is_checkpointing():
            self._recomputed_blocks = find_blocks(self.denoiser.module)  # text encoders are small

    def _is_checkpointing(self) -> bool:
        if self.memory_plan is not None:
            return self.memory_plan.recomputes
        switch = self.config.options.gradient_checkpointing
        if switch != "auto" or self._free_bytes is None:
            return switch == "on"
        first = self._draw_rows(0)[SUBJECT].first()
        prompt, shown = self._text.longest()
        kept = measure_kept(lambda: self._denoise(first, self._text.rows([prompt], [shown])),
                            self.denoiser.module.parameters())
        learned = sum(parameter.nbytes for trainable in self._trainables.values()
                      for parameter in trainable.parameters())
        free_bytes = self._free_bytes - 3 * learned  # gradients and an optimiser's two moments
        objects = max(len(example.subjects) for example in self.data.examples)
        return is_needed(kept, most_rows(self.config.objectives, self.config.batch, objects), free_bytes)

    def _owners(self) -> dict[str, Denoiser | TextEncoder]:
        return {DENOISER: self.denoiser, TEXT_ENCODER: self.text_encoder}

    @property
    def _text_view(self) -> TextView | None:
        encoder = self._image_text
        return None if encoder is None else TextView(vectors=self._text.vectors, encoder=encoder)

    @property
    def _is_bf16(self) -> bool:
        return is_bf16(self.config.options.precision, self.denoiser.device)


"""Everything the user chooses about a run, as frozen configs that metadata and run keys are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from ..errors import require
from ..learning.adapter import KINDS, AdapterConfig
from ..learning.token_vectors import TokenVectorsConfig
from ..objectives import objectives_from_dicts
from ..objectives.base import Objective, combine
from .validation import ValidationConfig

Optimizer = Literal["auto", "adamw", "adamw8bit", "adafactor", "prodigy", "adamw_schedulefree", "adam", "sgd"]
LRSchedule = Literal["constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial"]
Precision = Literal["auto", "fp32", "bf16"]
Switch = Literal["auto", "on", "off"]
MAX_RESOLUTION = 2048
LATER_OPTIONS = {"detach_begin_token": False, "min_rank": 0}
"""Options that came after runs were kept, with what those runs did: in a key only where a run differs."""
SCHEDULES_WITHOUT_END = ("constant", "constant_with_warmup")


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """The TrainingOptions node.

    Attributes:
        adapter: how the diffusion network learns.
        trains_denoiser: whether the diffusion network itself learns; not so in Textual Inversion.
        text_encoder_rate: learning rate of the text encoder; 0 = frozen.
        text_adapter: how the text encoder learns; None = as the diffusion network.
        accumulation: micro-steps per optimiser step.
        optimizer: "auto" is AdamW for adapters; for full weights `optimizer.choose_optimizer` says what fits.
        weight_decay: share of a weight, times the rate, that is taken away in every step; not from token vectors.
        lr_cycles: falls from the rate to 0 of cosine_with_restarts.
        lr_power: how steeply polynomial falls; 1 = linear.
        max_grad_norm: gradients are clipped to this norm; 0 = no clipping.
        ema_decay: the result is the exponential moving average of the weights with this decay; 0 = the last weights.
        save_every: the whole state is written every so many steps; 0 = only at the end.
        keep_every: what was learned is kept as an adapter file every so many steps; 0 = only at the end.
        detach_begin_token: whether keys and values of the begin token learn nothing (Custom Diffusion, ICO).
        min_rank: ranks of the diffusion network's LoRA that act at the highest noise, the whole rank at none (T-LoRA,
            arXiv:2507.05964); 0 = the whole rank always.
    """

    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    trains_denoiser: bool = True
    text_encoder_rate: float = 0.0
    text_adapter: AdapterConfig | None = None
    accumulation: int = 1
    optimizer: Optimizer = "auto"
    weight_decay: float = 0.01
    lr_schedule: LRSchedule = "constant"
    warmup_steps: int = 0
    lr_cycles: int = 3
    lr_power: float = 2.0
    max_grad_norm: float = 1.0
    ema_decay: float = 0.0
    precision: Precision = "auto"
    gradient_checkpointing: Switch = "auto"
    save_every: int = 50
    keep_every: int = 0
    detach_begin_token: bool = False
    min_rank: int = 0

    def __post_init__(self) -> None:
        _one_of("optimizer", self.optimizer, Optimizer)
        _one_of("lr_schedule", self.lr_schedule, LRSchedule)
        _one_of("precision", self.precision, Precision)
        _one_of("gradient_checkpointing", self.gradient_checkpointing, Switch)
        _at_least("text_encoder_rate", self.text_encoder_rate, 0)
        _at_least("accumulation", self.accumulation, 1)
        _at_least("weight_decay", self.weight_decay, 0)
        _at_least("warmup_steps", self.warmup_steps, 0)
        _at_least("lr_cycles", self.lr_cycles, 1)
        require(self.lr_power > 0, "lr_power", self.lr_power, "a number above 0", "Use 1 for a straight line.")
        _at_least("max_grad_norm", self.max_grad_norm, 0)
        require(0 <= self.ema_decay < 1, "ema_decay", self.ema_decay, "0 to below 1", "Use 0.99, or 0 for none.")
        _at_least("save_every", self.save_every, 0)
        _at_least("keep_every", self.keep_every, 0)
        require(self.lr_schedule != "constant" or self.warmup_steps == 0, "warmup_steps", self.warmup_steps,
                "0 with the constant schedule", "Choose constant_with_warmup.")
        self._check_min_rank()

    def _check_min_rank(self) -> None:
        _at_least("min_rank", self.min_rank, 0)
        if self.min_rank:
            maskable = " or ".join(kind.name for kind in KINDS.values() if kind.can_mask_rank)
            require(self.adapter.record.can_mask_rank, "min_rank", f"{self.min_rank} with the kind {self.adapter.kind}",
                    f"a kind whose rank can be masked: {maskable}", "Choose one of them, or set min_rank to 0.")
            require(self.min_rank < self.adapter.rank, "min_rank", self.min_rank,
                    f"less than the rank, {self.adapter.rank}", "Use half of the rank, or 0 for the whole rank always.")

    @property
    def trains_full_weights(self) -> bool:
        """Whether a network trains its own weights."""
        text = self.text_adapter or self.adapter
        return self.trains_denoiser and self.adapter.is_full or self.text_encoder_rate > 0 and text.is_full

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> TrainingOptions:
        """The options whose plain values metadata holds."""
        text = fields.get("text_adapter")
        return cls(**{**fields, "adapter": AdapterConfig(**fields["adapter"]),
                      "text_adapter": None if text is None else AdapterConfig(**text)})


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """A whole run: what PersonalizeTrainer's widgets, OPTIONS and OBJECTIVE say."""

    steps: int
    learning_rate: float = 1e-4
    batch: int = 1
    resolution: int = 512
    seed: int = 0
    options: TrainingOptions = field(default_factory=TrainingOptions)
    objectives: tuple[Objective, ...] = ()
    token_vectors: tuple[TokenVectorsConfig, ...] = ()
    validation: ValidationConfig | None = None

    def __post_init__(self) -> None:
        _at_least("steps", self.steps, 1)
        _at_least("batch", self.batch, 1)
        _at_least("resolution", self.resolution, 64)
        require(self.resolution <= MAX_RESOLUTION, "resolution", self.resolution, f"at most {MAX_RESOLUTION} pixels",
                "Use the size the model was trained for, for example 512 or 1024.")
        require(self.resolution % 8 == 0, "resolution", self.resolution, "a multiple of 8 pixels",
                f"Use {self.resolution // 8 * 8}.")
        require(0 < self.learning_rate < 1, "learning_rate", self.learning_rate,
                "a number above 0 and below 1", "Start from 1e-4 for LoRA.")
        object.__setattr__(self, "objectives", combine(self.objectives))

    @property
    def learns_vectors(self) -> bool:
        """Whether token vectors learn: the user's own, or those of an objective."""
        return bool(self.token_vectors) or any(type(objective).token_vectors is not Objective.token_vectors
                                               for objective in self.objectives)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as metadata holds them; files that are kept as ever say nothing of keep_every, as ever."""
        fields = {**asdict(self), "objectives": [objective.to_dict() for objective in self.objectives]}
        if not self.options.keep_every:
            del fields["options"]["keep_every"]
        return fields

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> TrainingConfig:
        """The config whose `to_dict` metadata holds."""
        return cls(**{**fields, "options": TrainingOptions.from_dict(fields["options"]),
                      "objectives": objectives_from_dicts(fields["objectives"]),
                      "token_vectors": tuple(TokenVectorsConfig(**word) for word in fields.get("token_vectors", ())),
                      "validation": ValidationConfig(**fields["validation"]) if fields.get("validation") else None})

    def key_fields(self) -> dict[str, Any]:
        """What changes the weights of step n: all but the number of steps (unless a learning rate looks at
        the end), what is saved how often, where memory is traded for time, and later options that are off."""
        fields = self.to_dict()
        if self.options.lr_schedule in SCHEDULES_WITHOUT_END and all(word.stop_at == 1 for word in self.token_vectors):
            del fields["steps"]
        for name in ("save_every", "keep_every", "gradient_checkpointing"):
            fields["options"].pop(name, None)
        for name, before in LATER_OPTIONS.items():
            if fields["options"][name] == before:
                del fields["options"][name]
        return fields


def _one_of(name: str, value: object, choices: Any) -> None:
    require(value in get_args(choices), name, repr(value), "one of " + ", ".join(get_args(choices)),
            "Choose one of them.")


def _at_least(name: str, value: float, low: float) -> None:
    require(value >= low, name, value, f"{low} or more", f"Use {low} or a larger number.")

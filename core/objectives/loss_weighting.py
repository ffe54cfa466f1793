"""How much each noise level counts: weights, the distance, the noise and the levels that are drawn.

Everything is said in signal and noise levels alpha_t and sigma_t, so that it means the same for noise, v and flow
predictions. With z_t fixed, an error of the prediction is an error of the noise: ‖d eps‖² = a ‖d prediction‖² with
a = 1 for eps, alpha² for v (eps = sigma z_t + alpha v) and for flow (eps = z_t + (1 - sigma) u, alpha = 1 - sigma).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

import torch
from torch import Generator, Tensor

from ..errors import require
from ..model.schedule import NoiseSchedule
from .base import Objective

Weighting = Literal["native", "epsilon", "min_snr", "debiased"]
Distance = Literal["squared", "huber"]
Levels = Literal["auto", "uniform", "logit_normal", "noisy", "clean"]
LARGEST_DEBIASED = 100.0
"""1 / sqrt(snr) is cut off here: with a zero terminal SNR it would be infinite."""


@dataclass(frozen=True, kw_only=True)
class LossWeighting(Objective):
    """Weights, distance, noise and levels of all rows; the defaults change nothing.

    With snr = alpha² / sigma² and a as above, the weight of the squared error at level t is
    native: 1 (the loss in the network's own prediction space); epsilon: a (unit weight in noise space);
    min_snr: a min(1, gamma / snr); debiased: a / sqrt(snr).

    Sources: min-SNR: Hang et al. 2023 (arXiv:2303.09556), min(snr, gamma) in x0-space. Debiased: Yu et al. 2023
    (arXiv:2310.08442), 1 / sqrt(snr) in noise space. Pseudo-Huber: Khrapov et al. 2024 (arXiv:2403.16728), with
    constant c. Logit-normal levels: Esser et al. 2024 (arXiv:2403.03206), 3.1. Cubic levels: Mou et al. 2023
    (arXiv:2302.08453).

    Attributes:
        weighting: see above.
        snr_gamma: gamma of min_snr; 5 in the paper.
        loss: "squared": d²; "huber": 2 c (sqrt(d² + c²) - c), which is d² for small d and 2 c |d| for large.
        huber_c: c.
        noise_offset: deviation of one random number per row and channel that is added to the noise; 0 = none.
        levels: "uniform" over the T levels; "logit_normal": sigmoid of a normal number; "noisy" and "clean": the
            cubic density, most of it at the noisy (the clean) end; "auto" is open until `settled` says which.
        shift: s of t' = s t / (1 + (s - 1) t) for the drawn t in 0..1, where t' is the noise level sigma itself of a
            flow model, and a share of the T levels otherwise; 0 = t is a share of the T levels as it is drawn, which
            ComfyUI's flow models have shifted already.
        logit_mean: mean of the normal number; above 0 noisier.
        logit_std: its deviation.
    """

    kind: ClassVar[str] = "loss_weighting"
    later_fields: ClassVar[tuple[str, ...]] = ("shift",)
    weighting: Weighting = "native"
    snr_gamma: float = 5.0
    loss: Distance = "squared"
    huber_c: float = 0.1
    noise_offset: float = 0.0
    levels: Levels = "uniform"
    logit_mean: float = 0.0
    logit_std: float = 1.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        for name, choices in (("weighting", Weighting), ("loss", Distance), ("levels", Levels)):
            require(getattr(self, name) in get_args(choices), name, repr(getattr(self, name)),
                    "one of " + ", ".join(get_args(choices)), "Choose one of them.")
        for name, usual in (("snr_gamma", 5), ("huber_c", 0.1), ("logit_std", 1)):
            require(getattr(self, name) > 0, name, getattr(self, name), "a number above 0", f"Use {usual}.")
        require(0 <= self.noise_offset <= 1, "noise_offset", self.noise_offset, "0 to 1", "Use 0.05 to 0.1, or 0.")
        require(self.shift >= 0, "shift", self.shift, "0 or more", "Use 1 for none, or 0 for the model's own table.")

    @property
    def levels_and_shift(self) -> tuple[str, float]:
        return self.levels, self.shift

    @property
    def has_open_levels(self) -> bool:
        return self.levels == "auto"

    def settled(self, levels: str, shift: float) -> LossWeighting:
        """With these levels in place of "auto"; a shift of its own stays."""
        if not self.has_open_levels:
            return self
        return replace(self, levels=levels, shift=self.shift or shift)  # type: ignore[arg-type]

    def draw_levels(self, schedule: NoiseSchedule, count: int, generator: Generator) -> Tensor | None:
        if self.levels == "uniform" and not self.shift:
            return None
        share = self._shares(count, generator)
        if not self.shift:
            return (share * len(schedule)).long().clamp(max=len(schedule) - 1)
        share = self.shift * share / (1 + (self.shift - 1) * share)
        if schedule.prediction == "flow":
            return _nearest(schedule.sigmas.to(share), share)
        return (share * len(schedule)).long().clamp(max=len(schedule) - 1)

    def _shares(self, count: int, generator: Generator) -> Tensor:
        """Numbers (count,) in 0..1, more is noisier."""
        if self.levels == "auto":
            raise ValueError("levels: got auto, expected those of the model's recipe; call settled first")
        if self.levels == "uniform":
            return torch.rand(count, generator=generator)
        if self.levels == "logit_normal":
            return torch.sigmoid(self.logit_mean + self.logit_std * torch.randn(count, generator=generator))
        share = torch.rand(count, generator=generator) ** 3  # T2I-Adapter's 1 - u³, from the noisy end
        return 1 - share if self.levels == "noisy" else share

    def shape_noise(self, noise: Tensor, generator: Generator) -> Tensor:
        if not self.noise_offset:
            return noise
        return noise + self.noise_offset * torch.randn(*noise.shape[:2], 1, 1, generator=generator)

    def row_weight(self, schedule: NoiseSchedule, index: Tensor) -> Tensor | None:
        if self.weighting == "native":
            return None
        alpha, sigma = (table[index.to(table.device)].double() for table in (schedule.alphas, schedule.sigmas))
        sigma = schedule.noise_scale * sigma
        in_noise_space = torch.ones_like(alpha) if schedule.prediction == "epsilon" else alpha.square()
        if self.weighting == "min_snr":
            # gamma / snr, without a division by a signal of zero
            return in_noise_space * (self.snr_gamma * sigma.square() / alpha.square().clamp(min=1e-12)).clamp(max=1)
        if self.weighting == "debiased":
            return in_noise_space * (sigma / alpha.clamp(min=1e-12)).clamp(max=LARGEST_DEBIASED)
        return in_noise_space

    def distance(self, schedule: NoiseSchedule) -> Callable[[Tensor, Tensor, Tensor], Tensor] | None:
        return self._pseudo_huber if self.loss == "huber" else None

    def _pseudo_huber(self, prediction: Tensor, target: Tensor, index: Tensor) -> Tensor:
        c = self.huber_c
        return 2 * c * ((prediction - target).square().add(c**2).sqrt() - c)


def _nearest(table: Tensor, values: Tensor) -> Tensor:
    """For each value (N,) the index of the nearest entry of a rising table (T,)."""
    above = torch.searchsorted(table, values).clamp(1, len(table) - 1)
    return torch.where(values - table[above - 1] < table[above] - values, above - 1, above)

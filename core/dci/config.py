"""How strongly, how long and where the auxiliary branch takes part (Jin et al., ECCV 2024, section 3.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from ..errors import require

AuxiliaryNoise = Literal["independent", "shared"]
Sharpening = Literal["auto", "published", "by_resolution"]
Aggregation = Literal["masks", "half", "sum"]
Layers = Literal["all", "last"]
Prompts = Literal["entire", "split"]


@dataclass(frozen=True, kw_only=True)
class DCIConfig:
    """What the user chooses about dual-branch sampling; the defaults are the published settings.

    docs/dci_defaults.md has the sweep that they were held against. `window` None lets window and sharpening follow the
    latents' size: at 64 x 64 they are the published ones.

    Attributes:
        omega: injection strength, the factor on the auxiliary branch's logit; published range -2..2. The
            default 1 is the neutral point: where both masks agree, each branch gives one half.
        omega_end: the strength at the end of the window; between, it is linear in log sigma. None: constant.
        window: fraction of the noise schedule, from pure noise on, in which both branches run; published 0.3, for
            64 x 64 latents. Smaller ones show their layout at lower noise and want more (docs/dci_defaults.md).
            0 is plain sampling; None: by the latents' size (`window.automatic_end`).
        window_sigma: the noise level at which the window ends, in place of `window`; None: by `window`.
        shared_guidance: the auxiliary branch takes the concept branch's unconditional noise prediction
            (published default), so that a guided step costs 3 rows per picture instead of 4.
        auxiliary_noise: the auxiliary branch's own noise (published), or the concept branch's.
        sharpening: over space as published, or scaled so that every latent size is treated as 64 x 64 is; auto:
            scaled where the window follows the latents' size, as published where its length is given.
        scales: which attention layers mix, by scale: 1 is the latents' own size, 2 half of it; empty: all.
        seed_exact: samplers that draw noise at every step draw for the concept branch what they draw in plain
            sampling, so that DCI changes only what DCI changes.
        aggregation: masks, or (ablation) the sum or the mean of both branches.
        layers: all, or (ablation) only the last one that mixes.
        prompts: both branches see the whole prompt, or (ablation) each the part that it is responsible for.
    """

    omega: float = 1.0
    omega_end: float | None = None
    window: float | None = 0.3
    window_sigma: float | None = None
    shared_guidance: bool = True
    auxiliary_noise: AuxiliaryNoise = "independent"
    sharpening: Sharpening = "auto"
    scales: tuple[int, ...] = ()
    seed_exact: bool = True
    aggregation: Aggregation = "masks"
    layers: Layers = "all"
    prompts: Prompts = "entire"

    def __post_init__(self) -> None:
        for name in ("omega", "omega_end"):
            value = getattr(self, name)
            require(value is None or -2 <= value <= 2, name, value, "-2 to 2",
                    "Use 1 to weigh both branches alike; more follows the prompt, less keeps the subject.")
        require(self.window is None or 0 <= self.window <= 1, "window", self.window,
                "0 to 1, a fraction of the noise schedule",
                "Use 0.3 as published, 0 for plain sampling, or -1 to let the latents' size decide.")
        require(self.window_sigma is None or 0 < self.window_sigma < math.inf, "window_sigma", self.window_sigma,
                "a noise level above 0", "Leave it out to give the window as a fraction of the noise schedule.")
        require(all(scale >= 1 for scale in self.scales), "scales", self.scales, "1, 2, 4, 8: 1 is the latents' size",
                "Leave it empty to mix in all layers.")
        for name, choices in (("auxiliary_noise", AuxiliaryNoise), ("sharpening", Sharpening), ("layers", Layers),
                              ("aggregation", Aggregation), ("prompts", Prompts)):
            require(getattr(self, name) in get_args(choices), name, repr(getattr(self, name)),
                    " or ".join(get_args(choices)), "Choose one of these.")

    @property
    def is_sharpened_by_resolution(self) -> bool:
        """Whether the masks' sharpening over space is scaled to the latents' size."""
        return self.sharpening == "by_resolution" or (self.sharpening == "auto" and self.window is None)

    def omega_at(self, sigma: float, start: float, end: float) -> float:
        """omega at a noise level of the window that runs from `start` down to `end` > 0: linear in log sigma."""
        if self.omega_end is None or start <= end:
            return self.omega
        progress = math.log(start / sigma) / math.log(start / end)
        return self.omega + min(1.0, max(0.0, progress)) * (self.omega_end - self.omega)

"""How strongly and for how long the auxiliary branch takes part (Jin et al., ECCV 2024, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import require


@dataclass(frozen=True, kw_only=True)
class DCIConfig:
    """What the user chooses about dual-branch sampling.

    Attributes:
        omega: injection strength, the factor on the auxiliary branch's logit; published range -2..2. The
            default 1 is the neutral point: where both masks agree, each branch gives one half.
        window: fraction of the noise schedule, from pure noise on, in which both branches run; published 0.3.
            0 is plain sampling.
        shared_guidance: the auxiliary branch takes the concept branch's unconditional noise prediction
            (published default), so that a guided step costs 3 rows per picture instead of 4.
    """

    omega: float = 1.0
    window: float = 0.3
    shared_guidance: bool = True

    def __post_init__(self) -> None:
        require(-2 <= self.omega <= 2, "omega", self.omega, "-2 to 2",
                "Use 1 to weigh both branches alike; more follows the prompt, less keeps the subject.")
        require(0 <= self.window <= 1, "window", self.window, "0 to 1, a fraction of the noise schedule",
                "Use 0.3 as published, or 0 for plain sampling.")

"""What is compared about DCI: an overfitted model as the paper's curves have, and the ways to sample it.

The paper draws DCI's curve where the raw model forgets the prompt. So does `OVERFITTED`, as the example of templates 03
and 12 (`tools/workflow_graphs/overfitted_example.py`): one photo, learned almost by heart, beside class images of the
noun and of the one that stands in for it. On lightly trained models every place is obeyed without DCI and nothing can
show; where the stand-in's prompts fail as well, there is nothing to borrow.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from ...core.dci.config import DCIConfig
from ...core.dci.window import SMALL_LATENTS, automatic_window
from ...core.learning.adapter import AdapterConfig
from ...core.objectives import PriorPreservation
from ...core.objectives.learned_contexts import LearnedContexts
from ...core.training.config import TrainingOptions
from .bench import PROMPTS, Prompt
from .claims import AREA, ICO_DCI, Claim
from .methods import AS_PUBLISHED as ICO_AS_PUBLISHED
from .methods import Method

ELSEWHERE = ("in the city", "under water", "in the kitchen", "on a wooden floor")
"""Where the stand-in's class images are: no place of `ASKED`."""
OVERFITTED = Method(
    name="dci_raw", title="a LoRA on one photo", photos=1, learning_rate=1e-3, steps=700,
    options=TrainingOptions(adapter=AdapterConfig(targets="attention_and_feed_forward"), save_every=0),
    objectives=(PriorPreservation(),), has_class_images=True, class_count=8,
    class_nouns=("{noun}", "{other}", *(f"{{other}} {place}" for place in ELSEWHERE)))
ICO = Method(
    name="dci_ico", title="ICO, one photo", photos=1, batch=1, learning_rate=3e-3, steps=300,
    options=TrainingOptions(adapter=AdapterConfig(kind="full", targets="cross_attention_kv"), optimizer="adamw",
                            save_every=0),
    objectives=(LearnedContexts(**ICO_AS_PUBLISHED),))
CHECKPOINTS = (350, OVERFITTED.steps)
"""Training steps of the curve over training; the last is what settings are compared on."""
PLACES = [prompt for prompt in PROMPTS if prompt.kind == "recontextualization"][::3]
COLOURED = [prompt for prompt in PROMPTS if prompt.kind == "property in a place"][1:2]
ASKED: tuple[Prompt, ...] = (*PLACES, *COLOURED)
SEEDS = 3
"""Pictures per prompt."""
SAMPLER, SCHEDULER, STEPS, CFG = "euler_ancestral", "normal", 12, 3.0
"""Fresh noise at every step, as the published eta = 1."""

Noun = Literal["first", "random", "prior"]
"""The auxiliary noun: the first of the list that is allowed, any of the world's, or by its prior in the context."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One way to train and sample.

    Attributes:
        name: in file names and claims.
        title: in tables.
        config: DCI's; None is plain sampling.
        method: how the model was trained.
        trained: its training steps.
        steps: sampling steps.
        noun: how the auxiliary noun is chosen.
    """

    name: str
    title: str
    config: DCIConfig | None = None
    method: Method = OVERFITTED
    trained: int = OVERFITTED.steps
    steps: int = STEPS
    noun: Noun = "first"

    @property
    def rows(self) -> float:
        """Network rows per picture: 2 per plain guided step; in the window the auxiliary branch's beside them."""
        if self.config is None:
            return 2.0 * self.steps
        window = automatic_window(SMALL_LATENTS) if self.config.window is None else self.config.window
        inside = self.steps if window == 1 else sum(step / (self.steps - 1) < window for step in range(self.steps))
        return 2.0 * self.steps + (1 if self.config.shared_guidance else 2) * inside


PUBLISHED = DCIConfig(omega=1.0, window=0.3, sharpening="published")
PLAIN = Setting(name="plain", title="plain (no DCI)")


def dci(name: str, title: str, base: DCIConfig = PUBLISHED, *, noun: Noun = "first", trained: int = OVERFITTED.steps,
        method: Method = OVERFITTED, steps: int = STEPS, **changes: Any) -> Setting:
    """DCI with some of a configuration changed."""
    return Setting(name=name, title=title, config=replace(base, **changes), noun=noun, trained=trained, method=method,
                   steps=steps)


AS_PUBLISHED = 0.78
"""The window that ends at 12 / 64 of the noise level at which the published one ends (sigma 3.32 at 64 x 64 latents).
A region of so many pixels is as visible through the noise there, because its cells are fewer by (12 / 64)^2 and noise
averages out with the root of their number (the resolution shift of Hoogeboom et al. 2023, arXiv:2301.11093)."""
CANDIDATE = replace(PUBLISHED, window=1.0, sharpening="by_resolution")
SWEEP: tuple[Setting, ...] = (
    PLAIN,
    dci("published", "published: omega 1, window 0.3"),
    dci("omega_2", "omega 2", omega=2.0),
    dci("window_06", "window 0.6", window=0.6),
    dci("window_078", "window 0.78", window=AS_PUBLISHED),
    dci("window_1", "window 1", window=1.0),
    dci("by_resolution", "sharpening by resolution", sharpening="by_resolution"),
    dci("separate", "separate guidance", shared_guidance=False),
    dci("shared_noise", "shared auxiliary noise", auxiliary_noise="shared"),
    dci("fine_layers", "finer layers only (scale 2)", scales=(2,)),
    dci("wide_078", "window 0.78, by resolution", CANDIDATE, window=AS_PUBLISHED),
    dci("wide", "window 1, by resolution", CANDIDATE),
    dci("wide_omega_05", "window 1, by resolution, omega 0.5", CANDIDATE, omega=0.5),
    dci("wide_omega_2", "window 1, by resolution, omega 2", CANDIDATE, omega=2.0),
)
"""One factor at a time around the published defaults, then what the first look showed to move something, together."""
PAIRS = (("published", "plain"), ("wide", "plain"), ("wide", "published"), ("wide", "window_1"),
         ("wide_omega_2", "wide"), ("wide", "wide_omega_05"))
"""Which of them are compared directly; the first minus the second."""

CHOSEN = CANDIDATE
"""What the sweep chose for the pocket world; `docs/dci_defaults.md` shows it. Held-out subjects see no other choice."""
OMEGAS = (-1.0, 0.0, 0.5, 1.0, 2.0)
EQUAL_ROWS = round(Setting(name="", title="", config=CHOSEN).rows / 2)
"""Steps of plain sampling with as many network rows as DCI's."""


def _at(trained: int) -> str:
    return "" if trained == OVERFITTED.steps else f"_{trained}"


_CURVES = {
    setting.name: setting for trained in CHECKPOINTS for setting in (
        replace(PLAIN, name=f"plain{_at(trained)}", title=f"plain, {trained} training steps", trained=trained),
        dci(f"dci{_at(trained)}", f"DCI, {trained} training steps", CHOSEN, trained=trained),
        replace(PLAIN, name=f"rows{_at(trained)}", title=f"plain at equal rows, {trained} training steps",
                trained=trained, steps=EQUAL_ROWS))}
_OMEGAS = {omega: dci(f"omega_{omega:g}", f"DCI, omega {omega:g}", CHOSEN, omega=omega)
           for omega in OMEGAS if omega != CHOSEN.omega}
_ABLATIONS = (
    dci("mean", "no masks: mean of the branches", CHOSEN, aggregation="half"),
    dci("split", "split prompts", CHOSEN, prompts="split"),
    dci("last", "last layer only", CHOSEN, layers="last"),
    dci("sum", "no masks: sum of the branches", CHOSEN, aggregation="sum"),
)
_NOUNS = (
    dci("noun_prior", "auxiliary noun by its prior in the context", CHOSEN, noun="prior"),
    dci("noun_random", "random auxiliary noun", CHOSEN, noun="random"),
)
_ICO = (
    replace(PLAIN, name="ico", title="ICO, plain", method=ICO, trained=ICO.steps),
    dci("ico_dci", "ICO + DCI", CHOSEN, method=ICO, trained=ICO.steps),
)
ROUNDS: tuple[tuple[Setting, ...], ...] = (
    (_CURVES["plain"], _CURVES["dci"]),
    (_CURVES["rows"], dci("published", "DCI, published window and sharpening")),
    (_OMEGAS[-1.0], _OMEGAS[2.0]),
    _ABLATIONS,
    tuple(_CURVES[name] for name in ("plain_350", "dci_350", "rows_350")),
    (*_NOUNS, _OMEGAS[0.0], _OMEGAS[0.5]),
    _ICO,
)
"""In this order, so that a run that is cut off has whole figures."""
FIGURES: tuple[Setting, ...] = tuple(setting for settings in ROUNDS for setting in settings)
CURVES = {"raw model": tuple(f"plain{_at(trained)}" for trained in CHECKPOINTS),
          "raw model, equal rows": tuple(f"rows{_at(trained)}" for trained in CHECKPOINTS),
          "DCI": tuple(f"dci{_at(trained)}" for trained in CHECKPOINTS)}
"""Settings of each curve over training, from the first checkpoint to the last."""
CLAIMS: tuple[Claim, ...] = (
    Claim("DCI raises alignment", ICO_DCI, "dci", "plain", "alignment", +1),
    Claim("DCI at its published window and sharpening raises alignment", ICO_DCI, "published", "plain",
          "alignment", +1),
    Claim("DCI has more area at equal steps, at the last checkpoint", ICO_DCI + ", fig. 6", "dci", "plain", AREA, +1),
    Claim("DCI has more area at equal network rows, at the last checkpoint", ICO_DCI + ", fig. 6", "dci", "rows",
          AREA, +1),
    Claim("DCI costs fidelity", ICO_DCI + ", fig. 9: nearly equal", "dci", "plain", "fidelity", -1),
    Claim("alignment rises with omega", ICO_DCI + ", fig. 9", "omega_2", "omega_-1", "alignment", +1),
    Claim("a large omega costs fidelity", ICO_DCI + ", fig. 9", "omega_2", "omega_-1", "fidelity", -1),
    Claim("DCI's curve lies above the raw model's at equal steps", ICO_DCI + ", fig. 6", "DCI", "raw model", AREA, +1),
    Claim("DCI's curve lies above the raw model's at equal network rows", ICO_DCI + ", fig. 6", "DCI",
          "raw model, equal rows", AREA, +1),
    Claim("without masks (sum) it is worse", ICO_DCI + ", fig. 10", "sum", "dci", AREA, -1),
    Claim("without masks (mean) it is worse", "the same, our variant", "mean", "dci", AREA, -1),
    Claim("with split prompts it is worse", ICO_DCI + ", fig. 10", "split", "dci", AREA, -1),
    Claim("in the last layer only it is worse", ICO_DCI + ", fig. 10", "last", "dci", AREA, -1),
    Claim("a noun by its prior in the context is better than a random one", ICO_DCI + ", fig. 12", "noun_prior",
          "noun_random", AREA, +1),
    Claim("ICO with DCI is better than ICO alone", ICO_DCI, "ico_dci", "ico", AREA, +1),
)

"""What is compared: every method of the papers as a choice of the same parts, as a graph would choose them.

Rates and steps are the measured presets (`core/training/measured_presets.py`), chosen on held-in subjects by
`tuning.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ...core.learning.token_vectors import TokenVectorsConfig
from ...core.objectives import PriorPreservation
from ...core.objectives.base import Objective
from ...core.objectives.class_characterizing import ClassCharacterizing
from ...core.objectives.learned_contexts import LearnedContexts
from ...core.objectives.masked import MaskedLoss
from ...core.objectives.object_specific import ObjectSpecificLoss
from ...core.training.config import TrainingOptions
from ...core.training.measured_presets import MEASURED
from .bench import IDENTIFIER


@dataclass(frozen=True, kw_only=True)
class Method:
    """One method.

    Attributes:
        name: in file names and claims.
        title: in tables.
        options: what trains, and how.
        objectives: beside the plain loss.
        has_class_images: whether the model's own class images are made for it.
        class_nouns: of what; {noun} is the subject's, {other} the first noun that DCI would take in its place.
        class_count: images of each.
        vectors: learned words for the identifier, None for none; the word is set to the subject's identifier.
        has_prototype: whether the vectors start from the prototype of photo and mask.
        photos: how many photos it gets.
        identifier: the word for the subject.
        noun: another class noun than the subject's, in training and in prompts; "" = none at all.
        caption: of every photo; None = 'a {V} {noun}', or 'a {V}' where there is no noun.
        steps: at the last checkpoint.
    """

    name: str
    title: str
    options: TrainingOptions
    objectives: tuple[Objective, ...] = ()
    has_class_images: bool = False
    class_nouns: tuple[str, ...] = ("{noun}",)
    class_count: int = 24
    vectors: TokenVectorsConfig | None = None
    has_prototype: bool = False
    photos: int = 5
    identifier: str = IDENTIFIER
    noun: str | None = None
    caption: str | None = None
    steps: int
    learning_rate: float
    batch: int = 2


def _word(**settings: Any) -> TokenVectorsConfig:
    usual: dict[str, Any] = {"word": IDENTIFIER, "start_text": "{noun}", "learning_rate": 1e-2}
    return TokenVectorsConfig(**usual | settings)


BEST = "all weights, prior, mask"
"""Of `best_recipe`, by docs/evidence_settings.md."""


def _measured(preset: str, **parts: Any) -> Method:
    """A method with the settings that users get."""
    chosen = MEASURED[preset]
    measured: dict[str, Any] = {"name": preset, "title": chosen.evidence, "options": chosen.options,
                                "steps": chosen.steps, "learning_rate": chosen.learning_rate, "batch": chosen.batch}
    return Method(**measured | parts)


_LORA = _measured("lora")
_DREAMBOOTH = _measured("dreambooth", objectives=(PriorPreservation(),), has_class_images=True)
AS_PUBLISHED: dict[str, Any] = {"identifier_rate_factor": 1.0}
"""V learns at the run's own rate, as the authors' does; all else is the node's default."""
_ICO = _measured("ico", objectives=(LearnedContexts(**AS_PUBLISHED), PriorPreservation()), has_class_images=True)
_MANUAL = replace(_ICO, name="ico_manual_prompt", title="ICO's V in a manual prompt (m 2)",
                  caption="a photo of a {V} {noun}", objectives=(PriorPreservation(),),
                  vectors=_word(count=2, start_text=IDENTIFIER, learning_rate=_ICO.learning_rate))
"""The same without contexts: V's start and rate are ICO's, and the paper's prompt stands in the contexts' place."""
KNOWN_WORD = "large"
"""An English word that the pocket model's captions have, one token as the rare identifier is."""
_CUSTOM = _measured("custom_diffusion", vectors=_word(count=1), objectives=(PriorPreservation(),),
                    has_class_images=True)
_ONE_SHOT = _measured("one_shot", photos=1, objectives=(ObjectSpecificLoss(), ClassCharacterizing()),
                      has_prototype=True, vectors=_word(count=4, start="given", digest="prototype"))


def best_recipe() -> dict[str, Method]:
    """Candidates for our own best recipe, by what they combine."""
    prior, masked = PriorPreservation(), MaskedLoss(background_weight=0.1)
    word = _word(count=2)
    lora, full = _LORA, _DREAMBOOTH
    return {
        "LoRA, word, prior": replace(lora, vectors=word, objectives=(prior,), has_class_images=True),
        "LoRA, word, prior, mask": replace(lora, vectors=word, objectives=(prior, masked), has_class_images=True),
        "all weights, word, prior": replace(full, vectors=word),
        "all weights, prior, mask": replace(full, objectives=(prior, masked)),
        "all weights, word, prior, mask": replace(full, vectors=word, objectives=(prior, masked)),
    }


def _without(method: Method, kind: str, **changes: Any) -> Method:
    kept = tuple(objective for objective in method.objectives if objective.kind != kind)
    return replace(method, objectives=kept, **changes)


def _with_contexts(name: str, title: str, **settings: Any) -> Method:
    return replace(_ICO, name=name, title=title,
                   objectives=(LearnedContexts(**AS_PUBLISHED, **settings), PriorPreservation()))


_ALL: tuple[Method, ...] = (
    _DREAMBOOTH,
    _without(_DREAMBOOTH, "prior_preservation", name="dreambooth_without_prior", title="DreamBooth without prior",
             has_class_images=False),
    _LORA,
    replace(_LORA, name="lora_prior", title="LoRA, prior", objectives=(PriorPreservation(),), has_class_images=True),
    replace(_LORA, name="lora_wrong_noun", title="LoRA, wrong noun", noun="house"),
    replace(_LORA, name="lora_no_noun", title="LoRA, no noun", noun=""),
    replace(_LORA, name="lora_english_word", title=f"LoRA, identifier '{KNOWN_WORD}'", identifier=KNOWN_WORD),
    _measured("textual_inversion", vectors=_word(count=4)),
    _CUSTOM,
    _measured("ed_lora", vectors=_word(count=2)),
    _ICO,
    _MANUAL,
    _with_contexts("ico_m1", "ICO, m 1", identifier_vectors=1),
    _with_contexts("ico_m4", "ICO, m 4", identifier_vectors=4),
    _with_contexts("ico_n4k2", "ICO, n 4, k 2", prefix=4, suffix=2),
    _ONE_SHOT,
    replace(_ONE_SHOT, name="one_shot_random_start", title="one-shot, random start", has_prototype=False,
            vectors=_word(count=4, start="random", std=0.3)),
    _without(_ONE_SHOT, "class_characterizing", name="one_shot_without_cl", title="one-shot without L_CL"),
    _without(_ONE_SHOT, "object_specific_loss", name="one_shot_without_sp", title="one-shot without L_SP"),
)
_BEST = replace(best_recipe()[BEST], name="best", title=f"our best recipe: {BEST}")
METHODS: dict[str, Method] = {method.name: method for method in (*_ALL, _BEST)}
QUICK = ("dreambooth", "dreambooth_without_prior", "lora", "textual_inversion", "custom_diffusion", "ico",
         "ico_manual_prompt", "one_shot", "one_shot_random_start", "one_shot_without_sp")

"""From the Auxiliary Noun Picker's widgets to a noun, a report and a sheet."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ....core.dci.noun_scores import ScoredNoun, rank_by_text, report
from ....core.dci.nouns import allowed_nouns, fold, preset_nouns
from ....core.dci.phrases import replace_phrase
from ....core.dci.thumbnails import contact_sheet
from ....core.errors import require
from ....core.model.image_text import ImageTextEncoder
from ....core.store.class_images import PriorRecipe
from ....core.subject.subject import CLASS_TEMPLATE, fill
from ..sampling.class_images import decode, model_digest, text_encoder_digest
from ..text.vocabulary import text_embedder
from .noun_evidence import BATCH, EvidenceModels, gather

MODES = ("preset", "text", "prior")
SHOWN = 4
"""Pictures per noun on the sheet."""
LEGENDS = {
    "preset": "The first noun of the list that is neither the class noun nor a synonym of it.",
    "text": "score = fit - likeness. fit: how much the noun leads where the prompt leads; likeness: how near it is to "
            "the class noun. Both are cosines of shifts from 'a object'.",
    "prior": "score = context: the share of the denoising error of the noun's own pictures that the prompt explains "
             "beyond 'a {noun}'. Near or below 0: the model does not draw this noun in these surroundings.",
    "encoder": "score = context: how much nearer the noun's pictures are to the whole prompt than to 'a {noun}', by "
               "the image-text encoder (cosines). prompt: how near they are to the prompt.",
}


@dataclass(frozen=True, kw_only=True)
class NounRequest:
    """What the user asked for.

    Attributes:
        typed: the user's own candidates as one text.
        tried: how many nouns of the preset list are candidates.
        pictures: sampled per noun by `prior`.
    """

    prompt: str
    identifier: str
    class_noun: str
    mode: str
    category: str
    typed: str
    tried: int
    pictures: int
    seed: int
    steps: int
    cfg: float
    size: int
    sampler: str
    scheduler: str

    def __post_init__(self) -> None:
        require(self.mode in MODES, "mode", repr(self.mode), f"one of {', '.join(MODES)}", "Use 'preset'.")
        require(bool(self.identifier.strip()), "identifier", "an empty text", "the subject's identifier",
                "Type the identifier the model was trained with.")
        text, count = replace_phrase(self.prompt, self.identifier, self.class_noun, "thing")
        phrase = fill("{V} {noun}", self.identifier, self.class_noun)
        require(count > 0, "prompt", repr(self.prompt), f"{phrase!r} in it",
                "Write identifier and class noun side by side.")
        require(self.mode == "preset" or fold(text) not in ("thing", "a thing"), "prompt", repr(self.prompt),
                "a prompt that says more than the subject", "Say where it is, or use the mode 'preset'.")

    @property
    def candidates(self) -> tuple[str, ...]:
        """The user's nouns, or those of the list, without the class noun and its synonyms.

        Raises:
            InputError: when none is left.
        """
        if not self._own:
            nouns = preset_nouns(self.class_noun, self.category)[: self.tried]
        else:
            nouns = allowed_nouns(self.class_noun, self._own)
        require(bool(nouns), "candidates", ", ".join(self._own) or f"the category {self.category}",
                f"a noun other than {self.class_noun!r} and its synonyms", "Name other kinds of things.")
        return nouns

    def left_out(self) -> list[str]:
        """The user's nouns that cannot be used."""
        return [noun for noun in self._own if noun not in self.candidates]

    @property
    def _own(self) -> list[str]:
        return [" ".join(noun.split()) for noun in re.split(r"[,;\n]+", self.typed) if noun.strip()]

    def with_noun(self, noun: str) -> str:
        """The prompt with the noun in the subject's place."""
        return replace_phrase(self.prompt, self.identifier, self.class_noun, noun)[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class NounChoice:
    """What the picker found: sheet is (1, H, W, 3)."""

    noun: str
    report: str
    sheet: Tensor
    warnings: tuple[str, ...] = ()


def pick_noun(request: NounRequest, clip: Any, model: Any, vae: Any,
              encoder: ImageTextEncoder | None = None) -> NounChoice:
    """The best noun by the request's mode."""
    _check_sockets(request, clip, model, vae)
    if request.mode == "prior":
        return _by_prior(request, clip, model, vae, encoder)
    scored = _by_text(request, clip) if request.mode == "text" else tuple(
        ScoredNoun(noun=noun, score=-place) for place, noun in enumerate(request.candidates))
    return _choice(request, scored, [torch.zeros(0, 1, 1, 3)] * len(scored), request.mode)


def _check_sockets(request: NounRequest, clip: Any, model: Any, vae: Any) -> None:
    require(clip is not None, "clip", "nothing", "a text encoder", "The checkpoint has none: connect a CLIP loader.")
    needed = {"model": model, "vae": vae} if request.mode == "prior" else {}
    for name, value in needed.items():
        require(value is not None, name, "nothing", f"a {name.upper()} for the mode 'prior'",
                f"Connect the {name.upper()} of the checkpoint loader, or use the mode 'text'.")


def _by_text(request: NounRequest, clip: Any) -> tuple[ScoredNoun, ...]:
    return rank_by_text(request.candidates, request.class_noun, request.with_noun, text_embedder(clip))


def _by_prior(request: NounRequest, clip: Any, model: Any, vae: Any, encoder: ImageTextEncoder | None) -> NounChoice:
    pictures = PriorRecipe(
        model=model_digest(model), text_encoder=text_encoder_digest(clip), prompt=fill(CLASS_TEMPLATE, "", "thing"),
        size=request.size, sampler=request.sampler, scheduler=request.scheduler, steps=request.steps, cfg=request.cfg,
        seed=request.seed)
    prompts = {noun: request.with_noun(noun) for noun in request.candidates}
    models = EvidenceModels(model=model, clip=clip, vae=vae, pictures=pictures, count=request.pictures, encoder=encoder)
    found = gather(models, prompts)
    shown = [decode(vae, each.latents[:SHOWN], BATCH) for each in found]
    return _choice(request, tuple(each.scored for each in found), shown, "encoder" if encoder else "prior")


def _choice(request: NounRequest, scored: tuple[ScoredNoun, ...], pictures: Sequence[Tensor],
            legend: str) -> NounChoice:
    best, dropped = scored[0], request.left_out()
    heading = f"Auxiliary nouns for '{request.prompt}', by {request.mode}"
    labels = [each.noun if request.mode == "preset" else f"{each.noun}  {each.score:.3f}" for each in scored]
    warnings = [f"left out, too near to '{request.class_noun}': {', '.join(dropped)}"] if dropped else []
    if request.mode == "prior" and best.score <= 0:
        warnings.append("the model draws none of these nouns in these surroundings: DCI cannot help much here.")
    text = "\n".join([report(scored, heading, LEGENDS[legend]), *warnings])
    return NounChoice(noun=best.noun, report=text, sheet=contact_sheet(labels, pictures), warnings=tuple(warnings))

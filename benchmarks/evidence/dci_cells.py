"""One cell of the DCI bench: a setting on a subject, its pictures on disk beside its figures.

Every setting draws the same prompts from the same noise, and what the sampler draws at each step is what plain sampling
draws (`seed_exact`): two settings differ by DCI alone.
"""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import Any

import comfy.sample
import numpy
import torch
from torch import Tensor

from ...core.dci.subjects import DCISubject, SubjectPrompt
from ...nodes.bridge.dci.dual_branch import patch_dual_branch
from ...nodes.bridge.dci.dual_prompt import encode_dual_prompt
from ...nodes.bridge.dci.noun_request import NounRequest, pick_noun
from ...nodes.bridge.sampling.sampling import conditioning
from ...pocket.config import LATENT_CHANNELS, SIZE
from .bench import Case, Prompt, case
from .cell_files import cell_path, made_from, read_cell, write_cell
from .cells import case_of, through_autoencoder, train
from .comfy_process import Loaded
from .dci_figures import figures
from .dci_nouns import candidates, first_noun, random_noun
from .dci_settings import ASKED, CFG, SAMPLER, SCHEDULER, SEEDS, Setting
from .parts import CLASS_SAMPLING

log = logging.getLogger("evidence")


def make_cell(loaded: Loaded, setting: Setting, number: int, seed: int, folder: Path) -> dict[str, Any]:
    """The figures of a setting on a subject, from disk where the cell was made before."""
    path, made = cell_path(folder, setting.name, number, seed), made_of(setting)
    if (cell := read_cell(path, made)) is not None:
        return cell
    shown = case_of(setting.method, number)
    trained, words = personalized(loaded, setting, number, seed)
    nouns = [auxiliary_noun(loaded, setting, shown, prompt) for prompt in ASKED]
    pictures = torch.cat([draw(trained, setting, words, shown, prompt, noun, seed)
                          for prompt, noun in zip(ASKED, nouns, strict=True)])
    pixels = (pictures.clamp(0, 1) * 255).round().to(torch.uint8)
    numpy.savez_compressed(path.with_suffix(".npz"), pictures=pixels.numpy())
    head = {"setting": setting.name, "subject": number, "seed": seed, "nouns": nouns, "made_from": made}
    return measure_cell(loaded, path, head)


def measure_cell(loaded: Loaded, path: Path, head: dict[str, Any]) -> dict[str, Any]:
    """Look at a cell's pictures with the measures of today and write its figures.

    Args:
        loaded: whose autoencoder the photos pass through.
        path: of the figures; the pictures lie beside it.
        head: what the cell is of; the rest is dropped.
    """
    with numpy.load(path.with_suffix(".npz")) as arrays:
        pictures = torch.from_numpy(arrays["pictures"]).float() / 255
    kept = {name: head[name] for name in ("setting", "subject", "seed", "nouns", "made_from")}
    cell = {**kept, **figures(pictures, references(loaded, head["subject"]), case(head["subject"], photos=1))}
    log.info("%s, subject %d: %s", head["setting"], head["subject"],
             " ".join(f"{name} {value:.3f}" for name, value in cell.items() if isinstance(value, float)))
    write_cell(path, cell)
    return cell


def made_of(setting: Setting) -> str:
    """What a setting's cells depend on."""
    return made_from(setting, ASKED, SEEDS, SAMPLER, SCHEDULER, CFG, CLASS_SAMPLING)


@cache
def references(loaded: Loaded, number: int) -> Tensor:
    """Five photos of the subject through the autoencoder, also where one was trained on."""
    return through_autoencoder(loaded.vae, case(number).pictures)


_LAST: dict[tuple[str, int, int, int], tuple[Loaded, str]] = {}


def personalized(loaded: Loaded, setting: Setting, number: int, seed: int) -> tuple[Loaded, str]:
    """The models that a setting samples, and how the subject is called; the last ones are kept."""
    key = (setting.method.name, setting.trained, number, seed)
    if key not in _LAST:
        _LAST.clear()
        _LAST[key] = train(loaded, setting.method, case_of(setting.method, number), setting.trained, seed)
    return _LAST[key]


def draw(trained: Loaded, setting: Setting, words: str, shown: Case, prompt: Prompt, noun: str, seed: int) -> Tensor:
    """`SEEDS` pictures of a prompt, (SEEDS, 3, H, W)."""
    class_noun = shown.subject.class_noun
    text, model = prompt.text(words, class_noun), trained.model
    if setting.config is None:
        positive = conditioning(trained.clip, text)
    else:
        model = patch_dual_branch(model, setting.config)
        subject = DCISubject(identifier=words, class_noun=class_noun, auxiliary_noun=noun)
        positive = encode_dual_prompt(trained.clip, SubjectPrompt(
            prompt=text, subjects=(subject,), split=setting.config.prompts == "split"))
    own = 1000 * seed + ASKED.index(prompt)
    shape = (SEEDS, LATENT_CHANNELS, SIZE // 8, SIZE // 8)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(own))
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        samples = comfy.sample.sample(model, noise, setting.steps, CFG, SAMPLER, SCHEDULER, positive,
                                      conditioning(trained.clip, ""), torch.zeros(shape), seed=own, disable_pbar=True)
        return trained.vae.decode(samples).movedim(-1, 1).clone()


def auxiliary_noun(loaded: Loaded, setting: Setting, shown: Case, prompt: Prompt) -> str:
    """The noun that stands in for the subject, by the setting's rule; "" where there is no auxiliary branch."""
    own = shown.subject.class_noun
    if setting.config is None:
        return ""
    if setting.noun == "prior":
        return _by_prior(loaded, prompt.text("V", own), own, candidates(own))
    return first_noun(own) if setting.noun == "first" else random_noun(own, shown.number, prompt)


@cache
def _by_prior(loaded: Loaded, text: str, own: str, nouns: tuple[str, ...]) -> str:
    request = NounRequest(prompt=text, identifier="V", class_noun=own, mode="prior", category="any",
                          typed=", ".join(nouns), tried=len(nouns), pictures=2, seed=0, steps=12, cfg=CFG,
                          size=SIZE, sampler=SAMPLER, scheduler=SCHEDULER)
    with torch.inference_mode():
        return pick_noun(request, loaded.clip, loaded.model, loaded.vae).noun

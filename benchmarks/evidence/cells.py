"""One cell of the bench: a method trained on a subject with a seed, sampled and measured at each of its checkpoints.

A cell that lies on disk is never made again, so that a run can be cut off at any time. Its pictures are kept beside its
figures, so that a new measure needs no new training.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import comfy.sample
import torch
from PIL import Image
from torch import Tensor

from ...nodes.bridge.sampling.sampling import conditioning
from ...nodes.personalize_trainer import PersonalizeTrainer
from ...pocket.config import SIZE
from .bench import PROMPTS, Case, Prompt, case
from .cell_files import cell_name, cell_path, made_from, read_cell, write_cell
from .comfy_process import Loaded
from .measures import Pictures, measure
from .methods import Method
from .parts import CLASS_SAMPLING, trainer_inputs
from .pictures import read_pictures, write_pictures

log = logging.getLogger("evidence")
SAMPLER, SCHEDULER, STEPS, CFG = "dpmpp_2m", "normal", 12, 3.0
PLAIN = 8
"""Pictures of 'a {V} {noun}' and of 'a {noun}' per cell."""

IDENTIFIER_OUTPUT = [output.id for output in PersonalizeTrainer.define_schema().outputs].index("identifier")
"""Which of the trainer's outputs says how prompts call the subject."""


@dataclass(frozen=True)
class Plan:
    """How much is done.

    Attributes:
        prompts: those that are sampled, each once per cell.
        checkpoints: fractions of a method's steps at which it is measured.
    """

    prompts: tuple[Prompt, ...] = PROMPTS
    checkpoints: tuple[float, ...] = (0.5, 1.0)


def make_cell(loaded: Loaded, method: Method, number: int, seed: int, plan: Plan, folder: Path) -> dict[str, Any]:
    """The measures of every checkpoint, from disk where the cell was made before."""
    path, made = cell_path(folder, method.name, number, seed), made_of(method, plan)
    if (cell := read_cell(path, made)) is not None:
        return cell
    shown = case_of(method, number)
    references = through_autoencoder(loaded.vae, case(number).pictures)  # all photos, also where a method gets one
    base = untrained(loaded, shown.subject.class_noun, seed)
    steps = [max(1, round(fraction * method.steps)) for fraction in plan.checkpoints]
    drawn = []
    for count in steps:
        trained, words = train(loaded, method, shown, count, seed)
        drawn.append(draw(trained, shown, words, plan.prompts, seed))
    write_pictures(path.with_suffix(".npz"), references, base, drawn)
    write_sheet(torch.cat([references, drawn[-1].plain[:5], drawn[-1].prompted]), path.with_suffix(".jpg"))
    head = {"method": method.name, "subject": number, "seed": seed, "steps": steps, "made_from": made}
    return measure_cell(path, head, method, plan.prompts)


def made_of(method: Method, plan: Plan) -> str:
    """What a method's cells depend on."""
    return made_from(method, plan, SAMPLER, SCHEDULER, STEPS, CFG, CLASS_SAMPLING)


@cache
def untrained(loaded: Loaded, noun: str, seed: int) -> Tensor:
    """'a {noun}' by the model that nothing was taught; the same for every method."""
    return sample(loaded, [f"a {noun}"] * PLAIN, seed)


def case_of(method: Method, number: int) -> Case:
    """A subject as the method gets it."""
    return case(number, photos=method.photos, identifier=method.identifier, noun=method.noun, caption=method.caption)


def measure_cell(path: Path, head: dict[str, Any], method: Method, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """Look at a cell's pictures with the measures of today and write its figures.

    Args:
        path: of the figures; the pictures lie beside it.
        head: `method`, `subject`, `seed`, `steps` of each checkpoint and `made_from`; more is dropped.
        method: the cell's.
        prompts: those that its pictures were made for.
    """
    references, base, drawn = read_pictures(path.with_suffix(".npz"))
    shown = case_of(method, head["subject"])
    cell = {name: head[name] for name in ("method", "subject", "seed", "steps", "made_from")}
    cell["checkpoints"] = [{"steps": steps, **measure(pictures, references, base, shown, prompts)}
                           for steps, pictures in zip(head["steps"], drawn, strict=True)]
    log.info("%s, subject %d: %s", method.name, head["subject"],
             " | ".join(f"step {point['steps']} fidelity {point['fidelity']:.3f} alignment {point['alignment']:.3f}"
                        for point in cell["checkpoints"]))
    write_cell(path, cell)
    return cell


def train(loaded: Loaded, method: Method, shown: Case, steps: int, seed: int) -> tuple[Loaded, str]:
    """The personalized models, and how the subject is called in prompts."""
    inputs = {"model": loaded.model, "clip": loaded.clip, "vae": loaded.vae, "subject": (shown.subject,),
              "steps": steps, "learning_rate": method.learning_rate, "batch": method.batch, "resolution": SIZE,
              "seed": seed, "run_name": cell_name(method.name, shown.number, seed)}
    with torch.inference_mode():
        node = PersonalizeTrainer.PREPARE_CLASS_CLONE(None)
        outputs = node.execute(**inputs | trainer_inputs(method, loaded, shown.subject)).result
    return Loaded(outputs[0], outputs[1], loaded.vae), outputs[IDENTIFIER_OUTPUT]


def draw(trained: Loaded, shown: Case, words: str, prompts: Sequence[Prompt], seed: int) -> Pictures:
    """All pictures of one checkpoint; the same noise for every method."""
    noun = shown.subject.class_noun
    named = [plainly(prompt.text(words, shown.named)) for prompt in prompts]
    return Pictures(prompted=sample(trained, named, seed),
                    plain=sample(trained, [plainly(f"a {words} {shown.named}")] * PLAIN, seed),
                    classes=sample(trained, [f"a {noun}"] * PLAIN, seed))


def plainly(text: str) -> str:
    """A prompt with single blanks: a noun that is left out leaves two."""
    return " ".join(text.split())


def sample(loaded: Loaded, prompts: Sequence[str], seed: int) -> Tensor:
    """One picture per prompt, (N, 3, H, W): all rows of one batch, each with its own text."""
    with torch.inference_mode(), torch.random.fork_rng(devices=[]):
        rows = {prompt: conditioning(loaded.clip, prompt)[0] for prompt in dict.fromkeys(prompts)}
        context = torch.cat([rows[prompt][0] for prompt in prompts])
        latent = comfy.sample.fix_empty_latent_channels(
            loaded.model, torch.zeros(len(prompts), 4, SIZE // 8, SIZE // 8))
        noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(seed))
        samples = comfy.sample.sample(loaded.model, noise, STEPS, CFG, SAMPLER, SCHEDULER, [[context, {}]],
                                      conditioning(loaded.clip, ""), latent, seed=seed, disable_pbar=True)
        pictures = torch.cat([loaded.vae.decode(part) for part in samples.split(8)])
    return pictures.movedim(-1, 1).clone()


def through_autoencoder(vae: Any, pictures: Tensor) -> Tensor:
    """Pictures (N, 3, H, W) as the autoencoder gives them back."""
    with torch.inference_mode():
        return vae.decode(vae.encode(pictures.movedim(1, -1))).movedim(-1, 1).clone()


def write_sheet(pictures: Tensor, path: Path, columns: int = 10) -> None:
    """A contact sheet: photos, 'a {V} {noun}', then the prompts in order."""
    size, rows = pictures.shape[-1], -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * size, rows * size), "white")
    for number, picture in enumerate((pictures.clamp(0, 1) * 255).round().to(torch.uint8).movedim(1, -1)):
        sheet.paste(Image.fromarray(picture.numpy()), (number % columns * size, number // columns * size))
    sheet.save(path, quality=85)

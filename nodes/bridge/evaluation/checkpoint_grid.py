"""A run's saved steps at several strengths, each drawn at the same noise: when was it good, and how strong is right?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ....core.errors import InputError, require
from ....core.evaluation.grid import Block, read_numbers, read_steps, render_grid
from ....core.store.run_list import result_steps
from ....core.subject.subject import fill
from ....core.wording import clean_prompt
from ..files.embeddings import identifiers
from ..files.personalizations import check_file, load_personalization
from ..files.run_results import RUN, find_result, list_results, result_name
from ..model.automatic import settle_sampling
from ..output import runs_root
from ..progress import Progress
from ..sampling.sampling import sample_preview
from ..sockets import Personalization, PreviewSettings

CONNECTED = "the connected run"
MOST_PICTURES = 512
SAMPLING = ("sampler", "scheduler", "sampling_steps", "cfg", "size")
STRENGTHS = (-10.0, 10.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class GridRequest:
    """What is to be drawn; every step was there when it was asked for.

    Attributes:
        run: its name.
        prompts: templates, with {V} and {noun}.
        settings: how every picture is sampled; its prompt is open.
        told: what was chosen for the user, and why.
    """

    model: Any
    clip: Any
    vae: Any
    run: str
    steps: Sequence[int]
    strengths: Sequence[float]
    prompts: Sequence[str]
    settings: PreviewSettings
    size: int
    told: Sequence[str]


def run_choices() -> list[str]:
    """What the widget offers."""
    return [CONNECTED, *dict.fromkeys(name for name in list_results() if ", step " not in name)]


def check_run(name: str) -> None:
    """Refuse a run that has no result.

    Raises:
        InputError: as `find_result`.
    """
    if name != CONNECTED:
        require(name.startswith(RUN), "run", repr(name), "a run", "Choose one from the list.")
        find_result(name)


def run_state(name: str) -> str:
    """Changes whenever a result of a chosen run does; always the same for a connected one."""
    if name == CONNECTED:
        return ""
    files = sorted(find_result(name).parent.glob("*-*.safetensors"))
    return " ".join(f"{path.name} {path.stat().st_mtime_ns}" for path in files)


def make_request(inputs: Mapping[str, Any], personalization: Personalization | None) -> GridRequest:
    """The request that the node's inputs make.

    Raises:
        InputError: no run, steps that were not kept, strengths that are none, no prompt, or too many pictures.
    """
    texts = {name: clean_prompt(inputs[name], name) for name in ("steps", "strengths", "prompts", "negative_prompt")}
    run = _run(inputs["run"], personalization)
    steps = read_steps(texts["steps"], result_steps(runs_root() / run))
    strengths = read_numbers(texts["strengths"], "strengths", *STRENGTHS)
    prompts = [line.strip() for line in texts["prompts"].splitlines() if line.strip()]
    require(bool(prompts), "prompts", "an empty text", "one prompt or more, one per line",
            "Write for example 'a {V} {noun} on the beach'.")
    count = len(steps) * len(strengths) * len(prompts)
    require(count <= MOST_PICTURES, "steps", f"{len(steps)} steps x {len(strengths)} strengths x {len(prompts)} prompts"
            f" = {count} pictures", f"at most {MOST_PICTURES} pictures", "Name fewer steps.")
    _check_names(check_file(result_name(run)), prompts)
    sampling, told = settle_sampling(inputs["model"], {name: inputs[name] for name in SAMPLING})
    settings = PreviewSettings(
        prompt=prompts[0], negative_prompt=texts["negative_prompt"], sampler=sampling["sampler"],
        scheduler=sampling["scheduler"], steps=sampling["sampling_steps"], cfg=sampling["cfg"], seed=inputs["seed"])
    return GridRequest(model=inputs["model"], clip=inputs["clip"], vae=inputs["vae"], run=run, steps=steps,
                       strengths=strengths, prompts=prompts, settings=settings, size=sampling["size"], told=told)


def _run(name: str, personalization: Personalization | None) -> str:
    if personalization is not None:
        folder = personalization.file.parent
        require(bool(result_steps(folder)), "personalization", f"the run {folder.name}, which is not on the disk",
                "a run whose results are kept", "Free some space and queue the graph of the run again.")
        return folder.name
    require(name != CONNECTED, "run", f"{CONNECTED}, and none is connected", "a run",
            "Choose one, or connect PERSONALIZATION of the trainer.")
    return find_result(name).parent.name


def _check_names(metadata: Mapping[str, Any], prompts: Sequence[str]) -> None:
    names = metadata["identifiers"]
    if len(names) > 1 and any("{V}" in prompt or "{noun}" in prompt for prompt in prompts):
        raise InputError("prompts", f"{{V}} or {{noun}} for a run of {len(names)} subjects", "their own words",
                         f"Write them out: {', '.join(names)}.")


def draw_grid(request: GridRequest) -> tuple[Tensor, Tensor]:
    """The sheet (1, H, W, 3), and all pictures (N, size, size, 3) prompt by prompt, step by step.

    Raises:
        InputError: a step's file is damaged, or of another family of models.
        InterruptProcessingException: a BaseException, when the user pressed cancel.
    """
    progress = Progress(len(request.steps) * len(request.strengths) * len(request.prompts))
    by_step = [torch.stack([_draw(request, step, strength, progress) for strength in request.strengths])
               for step in request.steps]
    pictures = torch.stack(by_step).movedim(2, 0)  # (prompts, steps, strengths, H, W, 3)
    blocks = [Block(heading, of_prompt) for heading, of_prompt in zip(request.prompts, pictures, strict=True)]
    rows, columns = ([f"step {step}" for step in request.steps],
                     [f"strength {strength:g}" for strength in request.strengths])
    return render_grid(blocks, rows, columns), pictures.flatten(0, 2)


def _draw(request: GridRequest, step: int, strength: float, progress: Progress) -> Tensor:
    """Every prompt's picture at a step and a strength: (prompts, H, W, 3)."""
    name = result_name(request.run, step)
    model, clip, metadata, _ = load_personalization(name, request.model, request.clip, strength, strength)
    pictures = []
    for prompt in request.prompts:
        text = fill(prompt, identifiers(metadata)[0], ", ".join(metadata["class_nouns"][:1]))
        picture = sample_preview(model, clip, request.vae, replace(request.settings, prompt=text), request.size)
        pictures.append(picture[0].cpu())
        progress.show(progress.step + 1, picture)
    return torch.stack(pictures)

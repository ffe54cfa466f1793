"""Rows times a sweep's combinations: jobs, each with its graph and a key of everything that its result depends on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .errors import PlanError
from .graph import (
    Graph,
    grid,
    overridden,
    problems_of_overrides,
    prompt_place,
    read_workflow,
    steps_of,
    subject_node,
    with_names,
    with_prompt,
    with_subject,
)
from .plan import Overrides, Plan, Subject
from .table import OVERRIDE, read_subjects


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training with the pictures of its prompts.

    Attributes:
        name: the row's name, and after -- the combination of a sweep.
        photos: folder or URL of the photos.
        staged: folder below ComfyUI's input folder that they are copied into.
        graphs: one per prompt, in API form; all train alike, so that a server trains once.
        prompts: their texts.
        settings: of the sweep, for the index.
        steps: of training.
        pictures: titles of the nodes whose pictures are kept; empty = all.
        key: of graphs and, once known, photos, code and models.
    """

    name: str
    photos: str
    staged: str
    graphs: tuple[Graph, ...]
    prompts: tuple[str, ...]
    settings: dict[str, Any]
    steps: int
    pictures: tuple[str, ...]
    key: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As it goes to a worker."""
        return asdict(self)


def workflow_path(plan: Plan, folder: Path, extension: Path) -> Path:
    """The workflow's file: in the plan's folder, or one of the extension's own by its name or number."""
    own = extension / "workflows" / "api"
    candidates = [folder / plan.workflow, own / plan.workflow, own / f"{plan.workflow}.json",
                  *sorted(own.glob(f"{plan.workflow} *.json"))]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        names = ", ".join(path.stem for path in sorted(own.glob("*.json")))
        raise PlanError([f"workflow: got {plan.workflow!r}, expected a file in API form, or one of: {names}"])
    return found


def make_jobs(plan: Plan, folder: Path, extension: Path) -> list[Job]:
    """All jobs of a plan, in the table's order. Raises: PlanError, naming every bad row and field."""
    graph = read_workflow(workflow_path(plan, folder, extension))
    problems = _problems(plan, graph)
    subjects: list[Subject] = []
    try:
        subjects = read_subjects(plan, folder)
    except PlanError as error:
        problems += error.problems
    for row in subjects:
        problems += problems_of_overrides(graph, row.overrides, row.name)
    if problems:
        raise PlanError(problems)
    return [_job(plan, graph, row, combination) for row in subjects for combination in grid(plan.sweep, OVERRIDE)]


def _problems(plan: Plan, graph: Graph) -> list[str]:
    problems = problems_of_overrides(graph, plan.overrides, "plan")
    for column, values in plan.sweep.items():
        title, separator, key = column.partition(OVERRIDE)
        if not separator or not values:
            problems.append(f"sweep: got {column!r} with {len(values)} values, expected 'node title / input' with some")
        else:
            problems += problems_of_overrides(graph, {title: {key: values[0]}}, "sweep")
    for check in (lambda: subject_node(graph), lambda: prompt_place(graph, plan.prompt)):
        try:
            check()
        except PlanError as error:
            problems += error.problems
    return problems


def _job(plan: Plan, graph: Graph, row: Subject, combination: Overrides) -> Job:
    settings = {f"{title}{OVERRIDE}{key}": value for title, inputs in combination.items()
                for key, value in inputs.items()}
    name = row.name + "".join(f"--{key.split(OVERRIDE)[1]}-{value}" for key, value in settings.items())
    name = "".join(letter if letter.isalnum() or letter in "._- " else "_" for letter in name)
    staged = f"fleet/{name}"
    made = with_subject(graph, staged, row.class_noun, row.identifier)
    for overrides in (plan.overrides, row.overrides, combination):
        made = overridden(made, overrides)
    made = with_names(made, name)
    place = prompt_place(made, plan.prompt)
    prompts = tuple(row.prompts) or (str(made[place.node]["inputs"][place.key]),)
    noun = row.class_noun or ""
    prompts = tuple(prompt.replace("{noun}", noun) if noun else prompt for prompt in prompts)
    return Job(name=name, photos=row.photos, staged=staged, settings=settings, steps=steps_of(made),
               graphs=tuple(with_prompt(made, place, prompt) for prompt in prompts), prompts=prompts,
               pictures=tuple(plan.pictures))


def keyed(job: Job, photos: str, identity: dict[str, Any]) -> Job:
    """The job with its key.

    Args:
        photos: digest of the photos' folder.
        identity: of the workers: code, ComfyUI, models.
    """
    content = json.dumps([job.graphs, job.pictures, photos, identity], sort_keys=True)
    return replace(job, key=hashlib.sha256(content.encode()).hexdigest()[:32])

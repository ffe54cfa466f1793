"""Results of runs as personalizations: the newest of a run, or that of a step that was kept on the way."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from comfy.cli_args import args

from ....core.errors import InputError, require
from ....core.learning.trainable import Artifacts
from ....core.store.run_list import list_runs, result_steps, run_of
from ....core.store.runs import Run, check_run_name
from ....core.training.keeper import load_vectors
from ..output import runs_root
from ..text.learned_vectors import CLIP_ENCODERS

RUN = "run: "
"""How the name of a run's result begins; `:` is in no run's name."""
STEP = re.compile(r"(?P<run>.+), step (?P<step>\d{1,12})")


def result_name(run: str, step: int | None = None) -> str:
    """How nodes name a run's newest result, or that of a step."""
    return f"{RUN}{run}" + ("" if step is None else f", step {step}")


def list_results() -> list[str]:
    """Names of the results of all runs, each run's newest first; none where users are told apart, for the list of a
    node is everybody's."""
    names: list[str] = []
    for run in [] if args.multi_user else list_runs(runs_root()):
        steps = result_steps(run.folder)
        names += [result_name(run.name)] if steps else []
        names += [result_name(run.name, step) for step in reversed(steps)] if len(steps) > 1 else []
    return names


def find_result(name: str) -> Path:
    """The adapter file of a result.

    Raises:
        InputError: no such run, or no result of that step.
    """
    plain = name.removeprefix(RUN)
    run, step = _run(plain), None
    if run is None and (parts := STEP.fullmatch(plain)) is not None:
        run, step = _run(parts["run"]), int(parts["step"])
    steps = [] if run is None else result_steps(run.folder)
    if run is None or not steps:
        raise InputError("name", repr(name), "a run that has a result",
                         "Choose one from the list; a run that was renamed or deleted has to be chosen again.")
    require(step is None or step in steps, "name", repr(name), f"a step that was kept: {', '.join(map(str, steps))}",
            "Choose one of them, or train again with keep_every in Training Options.")
    return run.adapter_path(steps[-1] if step is None else step)


def _run(name: str) -> Run | None:
    try:
        return run_of(runs_root() / check_run_name(name, "name"))
    except InputError:
        return None


def vectors_of(path: Path, metadata: dict[str, Any]) -> Artifacts:
    """The learned vectors that belong to a run's adapter file.

    Raises:
        InputError: they are missing or damaged.
    """
    run = run_of(path.parent)
    vectors = None if run is None else load_vectors(run, metadata, CLIP_ENCODERS)
    if vectors is None:
        raise InputError("name", f"{path.parent.name}, step {metadata['steps']}: its learned vectors are missing or "
                         "damaged", "a whole result", "Queue the graph of the run again, or choose another step.")
    return vectors

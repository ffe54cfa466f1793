"""Files that mean harm, or are simply not what their name says, in every folder that the nodes read."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .record import Result
from .rig import OUR_ERRORS, empty, forked, start_comfyui, use_copy

TITLE = "Hostile files"
CLAIM = "No file runs code or leads out of its folder; what cannot be used is refused in words, or made again."
PLACES = ("adapter", "embedding", "state", "result", "class image", "latents", "run.json", "recipe.json")
SLICES = 20
WANTED = {"full": range(SLICES), "quick": (0, 11), "small": (4,)}
STEPS = 2

Models = tuple[Any, Any, Any]


def trials(size: str) -> list[str]:
    """A slice of the contents in one place each."""
    places = PLACES[:3] if size == "small" else PLACES
    return [f"{place} {number}" for number in WANTED[size] for place in places]


@contextlib.contextmanager
def ready(work: Path) -> Iterator[Callable[[str], Result]]:
    """Every content of a slice."""
    models = start_comfyui(work.parent / "comfyui")

    @functools.cache
    def prepared() -> Path:
        store = empty(work / "whole")
        forked(functools.partial(prepare, models, store), work / "log.txt").needed("the whole files could not be made")
        return store

    def trial(identity: str) -> Result:
        whole, result = prepared(), Result(attempts=0)
        work_on = functools.partial(attempts, models, identity, whole, empty(work / "outside"))
        outcome = forked(work_on, work / "log.txt")
        ends: list[list[Any]] = outcome.value or [["all", f"lost: {outcome.said()}"]]
        for name, end in ends:
            result.attempts += 1
            result.counts[end.split(":")[0]] += 1
            result.lost += [f"{name}: {end.removeprefix('lost: ')}"] if end.startswith("lost") else []
        return result

    work.mkdir(parents=True, exist_ok=True)
    yield trial


def prepare(models: Models, store: Path) -> bool:
    """A store with a file in every place."""
    from .saved_files import make_files

    make_files(models, store, STEPS)
    return True


def attempts(models: Models, identity: str, whole: Path, outside: Path) -> list[list[str]]:
    """Use a copy of the whole store with every content of a slice in one place; the contents, and how each ended."""
    place, _, number = identity.rpartition(" ")
    good, ends = _file_of(place, whole).read_bytes(), []
    store, mark = outside / "store", outside / "code ran"
    for name, content in contents_for(place, good, mark)[int(number)::SLICES]:
        use_copy(whole, store)
        _file_of(place, store).write_bytes(content)
        try:
            end = use(models, place)
        except Exception as error:  # noqa: BLE001 - whatever is raised is the finding
            kind = type(error).__name__
            end = "refused" if kind in OUR_ERRORS else f"lost: raw {kind}: {error}"[:300]
        ends.append([name, led_outside(store) or end])
    return ends


def contents_for(place: str, good: bytes, mark: Path) -> list[tuple[str, bytes]]:
    """All that is put in a place where a good file stood; code in it would make the mark."""
    from .hostile_content import changed_contents, escapes, plain_contents

    found = [*plain_contents(mark)]
    if not place.endswith(".json"):
        found += [*changed_contents(good), *(escapes(good) if place == "adapter" else ())]
    return found


def use(models: Models, place: str) -> str:
    """Use what is in a place as a user does; how it ended."""
    from . import jobs
    from .saved_files import load_as_a_user, report_of_training

    if place in ("adapter", "embedding"):
        report = load_as_a_user(models, "tortured.safetensors")
        return "loaded with a warning" if "Warning" in report else "loaded"
    if place in ("class image", "recipe.json"):
        jobs.class_images(models)
        return "went on"
    report = report_of_training(models, STEPS if place == "result" else STEPS + 1)
    return "made again" if f"trained {STEPS}" in report or "resumed" not in report else "went on"


def led_outside(store: Path) -> str:
    """What was written where nothing belongs, as a loss; "" where nothing was."""
    from .stores import KEPT

    beside, above = ([path.name for path in folder.iterdir()] for folder in (store, store.parent))
    if {*beside} - {*KEPT, "temp"}:
        return f"lost: something was written beside the folders: {beside}"
    return f"lost: something was written outside: {above}" if {*above} != {store.name} else ""


def _file_of(place: str, store: Path) -> Path:
    """The file that is replaced."""
    patterns = {"adapter": "loras/tortured.safetensors", "embedding": "embeddings/tortured.safetensors",
                "state": "output/personalize/*/state.safetensors", "run.json": "output/personalize/*/run.json",
                "result": f"output/personalize/*/adapter-{STEPS:06d}.safetensors",
                "class image": "output/personalize/.class_images/*/00001.safetensors",
                "recipe.json": "output/personalize/.class_images/*/recipe.json",
                "latents": "output/personalize/.cache/latents-*.safetensors"}
    return sorted(store.glob(patterns[place]))[0]

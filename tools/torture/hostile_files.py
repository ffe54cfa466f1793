"""Files that mean harm, or are simply not what their name says, in every folder that the nodes read."""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .record import Result
from .rig import OUR_ERRORS, empty, forked, start_comfyui, use_store

TITLE = "Hostile files"
CLAIM = "No file runs code or leads out of its folder; what cannot be used is refused in words, or made again."
PLACES = ("adapter", "embedding", "state", "result", "class image", "latents", "run.json", "recipe.json")
SLICES = 20
WANTED = {"full": range(SLICES), "quick": (0, 11), "small": (4,)}
STEPS = 2


def trials(size: str) -> list[str]:
    """A slice of the contents in one place each."""
    places = PLACES[:3] if size == "small" else PLACES
    return [f"{place} {number}" for number in WANTED[size] for place in places]


@contextlib.contextmanager
def ready(work: Path) -> Iterator[Callable[[str], Result]]:  # noqa: C901 - functions over what only now is imported
    """Every content of a slice."""
    models = start_comfyui(work.parent / "comfyui")
    import folder_paths

    from ...nodes.load_personalization import LoadPersonalization
    from . import jobs
    from .hostile_content import changed_contents, escapes, plain_contents
    from .stores import KEPT

    def short_run(steps: int) -> str:
        return jobs.train(models, steps, options=jobs.options(text_encoder_rate=1e-4))[6]

    def prepare(store: Path) -> bool:
        use_store(store)
        jobs.run_job("textual inversion", models, STEPS)
        shutil.rmtree(store / "output" / "personalize" / jobs.RUN)
        jobs.train(models, STEPS, options=jobs.options(text_encoder_rate=1e-4))
        jobs.class_images(models)
        return True

    def load() -> str:
        """As a user does: the list of the editor, the check when it is queued, the node itself."""
        folder_paths.filename_list_cache.clear()
        LoadPersonalization.define_schema()
        name = "tortured.safetensors"
        checked = LoadPersonalization.validate_inputs(name)
        if checked is not True:
            return "refused"
        LoadPersonalization.fingerprint_inputs(name)
        model, clip, _ = models
        report = jobs.call(LoadPersonalization, name=name, model=model, clip=clip)[4]
        return "loaded with a warning" if "Warning" in report else "loaded"

    def use(place: str) -> str:
        if place in ("adapter", "embedding"):
            return load()
        if place in ("class image", "recipe.json"):
            jobs.class_images(models)
            return "went on"
        report = short_run(STEPS if place == "result" else STEPS + 1)
        return "made again" if f"trained {STEPS}" in report or "resumed" not in report else "went on"

    def contents_for(place: str, good: bytes, mark: Path) -> list[tuple[str, bytes]]:
        found = [*plain_contents(mark)]
        if not place.endswith(".json"):
            found += [*changed_contents(good), *(escapes(good) if place == "adapter" else ())]
        return found

    def attempts(identity: str, whole: Path, outside: Path) -> list[list[str]]:
        place, _, number = identity.rpartition(" ")
        good, ends = _file_of(place, whole).read_bytes(), []
        mark = outside / "code ran"
        for name, content in contents_for(place, good, mark)[int(number)::SLICES]:
            store = outside / "store"
            shutil.rmtree(store, ignore_errors=True)
            shutil.copytree(whole, store)
            use_store(store)
            _file_of(place, store).write_bytes(content)
            try:
                end = use(place)
            except Exception as error:  # noqa: BLE001 - whatever is raised is the finding
                kind = type(error).__name__
                end = "refused" if kind in OUR_ERRORS else f"lost: raw {kind}: {error}"[:300]
            if mark.exists() or {path.name for path in outside.iterdir()} != {"store"}:
                end = f"lost: something was written outside: {[path.name for path in outside.iterdir()]}"
            if {path.name for path in store.iterdir()} - {*KEPT, "temp"}:
                end = f"lost: something was written beside the folders: {[path.name for path in store.iterdir()]}"
            ends.append([name, end])
        return ends

    @functools.cache
    def prepared() -> Path:
        store = empty(work / "whole")
        outcome = forked(functools.partial(prepare, store), work / "log.txt")
        if not outcome.value:
            raise RuntimeError(f"the whole files could not be made: {outcome.said()}\n{outcome.trace}")
        return store

    def trial(identity: str) -> Result:
        whole, result = prepared(), Result(attempts=0)
        outcome = forked(functools.partial(attempts, identity, whole, empty(work / "outside")), work / "log.txt")
        ends: list[list[Any]] = outcome.value or [["all", f"lost: {outcome.said()}"]]
        for name, end in ends:
            result.attempts += 1
            result.counts[end.split(":")[0]] += 1
            result.lost += [f"{name}: {end.removeprefix('lost: ')}"] if end.startswith("lost") else []
        return result

    work.mkdir(parents=True, exist_ok=True)
    yield trial


def _file_of(place: str, store: Path) -> Path:
    """The file that is replaced."""
    patterns = {"adapter": "loras/tortured.safetensors", "embedding": "embeddings/tortured.safetensors",
                "state": "output/personalize/*/state.safetensors", "run.json": "output/personalize/*/run.json",
                "result": f"output/personalize/*/adapter-{STEPS:06d}.safetensors",
                "class image": "output/personalize/.class_images/*/00001.safetensors",
                "recipe.json": "output/personalize/.class_images/*/recipe.json",
                "latents": "output/personalize/.cache/latents-*.safetensors"}
    return sorted(store.glob(patterns[place]))[0]

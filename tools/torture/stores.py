"""The folders that a run leaves behind: whether every file in them is whole, and whether two of them are equal."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ...core.errors import InputError
from ...core.store.files import read_metadata, read_tensors
from .rig import RUN, STEPS, Outcome

KEPT = ("output", "loras", "embeddings")
AGE = 8 * 86400.0
"""Seconds after which what a dead process left may be swept by age."""


def is_temporary(path: Path) -> bool:
    """Whether a file is no result: temporary, or a lock."""
    return path.suffix in (".tmp", ".lock") or path.name.startswith(".")


def contents(store: Path) -> dict[str, str]:
    """A digest of every file that is kept, by its path; lock files hold nothing."""
    return {str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
            for folder in KEPT for path in sorted((store / folder).rglob("*"))
            if path.is_file() and path.suffix != ".lock"}


def differences(found: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """What is missing, too much or different."""
    return [*(f"{name} is missing" for name in wanted if name not in found),
            *(f"{name} is left over" for name in found if name not in wanted),
            *(f"{name} differs" for name in wanted if name in found and found[name] != wanted[name])]


def torn_files(store: Path) -> list[str]:
    """The finished files that cannot be read whole."""
    torn = []
    for path in sorted(store.rglob("*.safetensors")):
        if is_temporary(path):
            continue
        try:
            read_tensors(path)
        except InputError as error:
            torn.append(f"{path.relative_to(store)} is torn ({error.got})")
    return torn


def steps_on_disk(store: Path) -> int:
    """The step of the run's newest state, 0 where there is none."""
    steps = [0]
    for path in (store / "output" / "personalize").glob(f"{RUN}*/state.safetensors"):
        try:
            steps.append(int(read_metadata(path)["step"]))
        except (InputError, KeyError):
            continue
    return max(steps)


def finished(store: Path) -> set[str]:
    """Files that hold a result."""
    return {name for name in contents(store) if not is_temporary(Path(name))}


class Watch:
    """What must never go back while a run is killed again and again."""

    def __init__(self, store: Path):
        self.store, self.step, self.files = store, steps_on_disk(store), finished(store)

    def look(self) -> list[str]:
        """What was lost since the last look."""
        step, files = steps_on_disk(self.store), finished(self.store)
        lost = torn_files(self.store)
        lost += [f"the state went back from step {self.step} to {step}"] if step < self.step else []
        lost += [f"{name} is gone" for name in sorted(self.files - files)]
        self.step, self.files = step, files
        return lost


def compare_at_the_end(store: Path, wanted: Mapping[str, str], again: Callable[[], Outcome]) -> list[str]:
    """How a store differs from the undisturbed one; what is left over may still be swept by a later run, days after."""
    found = differences(contents(store), wanted)
    if found and all(sentence.endswith("is left over") for sentence in found):
        make_old(store)
        outcome = again()
        return differences(contents(store), wanted) + ([outcome.said()] if outcome.raised else [])
    return found


def make_old(store: Path) -> None:
    """Let every file have been written days ago."""
    then = time.time() - AGE
    for path in store.rglob("*"):
        os.utime(path, (then, then))


def results_of(store: Path, step: int = STEPS) -> dict[str, str]:
    """The digests of what a run of so many steps hands on: its adapter, its words, its state, and what was saved; a
    cancelled run has adapters of other steps beside them."""
    ends = (f"adapter-{step:06d}.safetensors", f"words-{step:06d}.safetensors", "state.safetensors")
    return {name: digest for name, digest in contents(store).items()
            if name.endswith(ends) or name.startswith(("loras", "embeddings"))}

"""One flipped bit at a random place of a file, as a failing disk makes it; then the file is used."""

from __future__ import annotations

import contextlib
import functools
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .record import Result
from .rig import empty, forked, start_comfyui, use_copy

TITLE = "Flipped bits"
CLAIM = ("A flipped bit is noticed: a run's result and a class image are made again to the same bits; a state is "
         "refused by the name of its file, without which the run ends with the same bits; an adapter and its words are "
         "refused or loaded with a warning.")
PLACES = ("state", "result", "class image", "adapter", "embedding")
PER_TRIAL = 10
TRIALS = {"full": 12, "quick": 2, "small": 1}


def trials(size: str) -> list[str]:
    """Ten flips in files of one kind each."""
    places = PLACES[::2] if size == "small" else PLACES
    return [f"{place} {number}" for number in range(TRIALS[size]) for place in places]


@contextlib.contextmanager
def ready(work: Path) -> Iterator[Callable[[str], Result]]:
    """Ten flips."""
    models = start_comfyui(work.parent / "comfyui")
    from .flipped_files import prepare

    @functools.cache
    def prepared() -> tuple[Path, dict[str, str], str]:
        shutil.rmtree(work / "later", ignore_errors=True)
        store = empty(work / "whole")
        outcome = forked(functools.partial(prepare, models, store), work / "log.txt")
        return store, *outcome.needed("the whole files could not be made")

    def trial(identity: str) -> Result:
        outcome = forked(functools.partial(flips, models, identity, *prepared()), work / "log.txt")
        place = identity.rpartition(" ")[0]
        ends: list[str] = outcome.value or [f"lost: {outcome.said()}"]
        counts = Counter(f"{place}: {'unnoticed' if end.startswith('lost') else end}" for end in ends)
        return Result(attempts=len(ends), lost=[end for end in ends if end.startswith("lost")], counts=counts)

    work.mkdir(parents=True, exist_ok=True)
    yield trial


def flips(models: tuple[Any, Any, Any], identity: str, whole: Path, later: dict[str, str], report: str) -> list[str]:
    """Flip a bit in a copy of the whole store and use it, again and again; what was noticed, or "lost: ..."."""
    from .flipped_files import is_of, use

    chance, place, ends = random.Random(identity), identity.rpartition(" ")[0], []
    for _ in range(PER_TRIAL):
        store = whole.with_name("flipped")
        use_copy(whole, store)
        path = chance.choice(sorted(path for path in store.rglob("*.safetensors")
                                    if is_of(place, str(path.relative_to(store)))))
        what = flip(path, chance)
        try:
            ends.append(use(models, place, store, later, report))
        except Exception as error:  # noqa: BLE001 - whatever is raised is the finding
            ends.append(f"lost: {type(error).__name__}: {error}"[:300])
        ends[-1] += f" ({what})" if ends[-1].startswith("lost") else ""
    return ends


def flip(path: Path, chance: random.Random) -> str:
    """Flip one bit of a file; where it was."""
    data = bytearray(path.read_bytes())
    at, bit = chance.randrange(len(data)), chance.randrange(8)
    data[at] ^= 1 << bit
    path.write_bytes(data)
    header = 8 + int.from_bytes(path.read_bytes()[:8], "little") if at >= 8 else 8
    part = "length" if at < 8 else "header" if at < header else "tensors"
    return f"{path.name}, byte {at} of {len(data)}, bit {bit}, in its {part}"

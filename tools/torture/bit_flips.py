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
from .rig import empty, forked, start_comfyui, use_store

TITLE = "Flipped bits"
CLAIM = ("A flipped bit is noticed: a run's result and a class image are made again to the same bits; a state is "
         "refused by the name of its file, without which the run ends with the same bits; an adapter and its words are "
         "refused or loaded with a warning.")
PLACES = ("state", "result", "class image", "adapter", "embedding")
PER_TRIAL = 10
TRIALS = {"full": 12, "quick": 2, "small": 1}
ADAPTERS = ("lora", "tortured")
"""Names of a LoRA and of a personalization with learned words."""
STEPS = 2


def trials(size: str) -> list[str]:
    """Ten flips in files of one kind each."""
    places = PLACES[::2] if size == "small" else PLACES
    return [f"{place} {number}" for number in range(TRIALS[size]) for place in places]


@contextlib.contextmanager
def ready(work: Path) -> Iterator[Callable[[str], Result]]:  # noqa: C901 - functions over what only now is imported
    """Ten flips."""
    models = start_comfyui(work.parent / "comfyui")
    from safetensors.torch import load_file

    from ...core.errors import InputError
    from ...nodes.load_personalization import LoadPersonalization
    from . import jobs
    from .stores import contents

    def short_run(steps: int) -> str:
        return jobs.train(models, steps, options=jobs.options(text_encoder_rate=1e-4))[6]

    def prepare(store: Path) -> list[Any]:
        """A store with a file of every kind; what later runs in it give where nothing is damaged."""
        use_store(store)
        jobs.run_job("textual inversion", models, STEPS)
        shutil.rmtree(store / "output" / "personalize" / jobs.RUN)
        adapter = jobs.train(models, STEPS, options=jobs.options(text_encoder_rate=1e-4))[5]
        jobs.call(jobs.SavePersonalization, personalization=adapter, name=ADAPTERS[0])
        jobs.class_images(models)
        shutil.copytree(store, store.with_name("later"))
        use_store(store.with_name("later"))
        short_run(STEPS + 1)
        return [contents(store.with_name("later")), loaded()]

    def loaded() -> str:
        """What Load Personalization says; the caches of file names are ComfyUI's own."""
        import folder_paths

        folder_paths.filename_list_cache.clear()
        model, clip, _ = models
        reports = []
        for name in (f"{stem}.safetensors" for stem in ADAPTERS):
            checked = LoadPersonalization.validate_inputs(name)
            if checked is not True:
                raise InputError("file", "a bad one", "", str(checked))
            reports.append(jobs.call(LoadPersonalization, name=name, model=model, clip=clip)[4])
        return "\n".join(reports)

    def use(place: str, store: Path, later: dict[str, str], report: str) -> str:
        """Use a store in which one file is damaged; what was noticed, or "lost: ..."."""
        if place in ("adapter", "embedding"):
            try:
                said = loaded()
            except InputError:
                return "refused"
            if "Warning" in said.replace(report, ""):
                return "warned"
            whole = store.with_name("whole") / "embeddings" / "tortured.safetensors"
            if place == "embedding" and jobs.same(*(load_file(path) for path in (whole, store / whole.relative_to(
                    store.with_name("whole"))))):
                return "a foreign file with the same vectors"
            return "lost: loaded without a word"
        if place == "class image":
            jobs.class_images(models)
            said = "made again"
        else:
            said = run_again(place, store)
        names = [name for name in contents(store) if _is_of(place, name)]
        if said.startswith("lost"):
            return said
        bad = [name for name in names if contents(store)[name] != later.get(name)]
        return f"lost: {bad[0]} differs" if bad else said

    def run_again(place: str, store: Path) -> str:
        """What a run does with a damaged file; where it names the file to remove, that is done."""
        steps, said = STEPS if place == "result" else STEPS + 1, ""
        try:
            report = short_run(steps)
        except InputError as refusal:
            path = next(store.rglob("state.safetensors"))
            if str(path) not in str(refusal):
                return f"lost: refused without the name of the file: {refusal}"
            path.unlink()
            said, report = "refused by name, then ", short_run(steps)
        return said + ("resumed" if "resumed" in report else "loaded" if "loaded" in report else "made again")

    def flips(identity: str, whole: Path, later: dict[str, str], report: str) -> list[str]:
        chance, place, ends = random.Random(identity), identity.rpartition(" ")[0], []
        for _ in range(PER_TRIAL):
            store = whole.with_name("flipped")
            shutil.rmtree(store, ignore_errors=True)
            shutil.copytree(whole, store)
            use_store(store)
            path = chance.choice(sorted(path for path in store.rglob("*.safetensors")
                                        if _is_of(place, str(path.relative_to(store)))))
            what = flip(path, chance)
            try:
                ends.append(use(place, store, later, report))
            except Exception as error:  # noqa: BLE001 - whatever is raised is the finding
                ends.append(f"lost: {type(error).__name__}: {error}"[:300])
            ends[-1] += f" ({what})" if ends[-1].startswith("lost") else ""
        return ends

    @functools.cache
    def prepared() -> tuple[Path, dict[str, str], str]:
        shutil.rmtree(work / "later", ignore_errors=True)
        store = empty(work / "whole")
        outcome = forked(functools.partial(prepare, store), work / "log.txt")
        if outcome.value is None:
            raise RuntimeError(f"the whole files could not be made: {outcome.said()}\n{outcome.trace}")
        return store, *outcome.value

    def trial(identity: str) -> Result:
        outcome = forked(functools.partial(flips, identity, *prepared()), work / "log.txt")
        place = identity.rpartition(" ")[0]
        ends: list[str] = outcome.value or [f"lost: {outcome.said()}"]
        counts = Counter(f"{place}: {'unnoticed' if end.startswith('lost') else end}" for end in ends)
        return Result(attempts=len(ends), lost=[end for end in ends if end.startswith("lost")], counts=counts)

    work.mkdir(parents=True, exist_ok=True)
    yield trial


def _is_of(place: str, name: str) -> bool:
    """Whether a file of the store is of this kind."""
    ends = {"state": "/state.safetensors", "result": f"/adapter-{STEPS:06d}.safetensors"}
    starts = {"adapter": "loras/", "embedding": "embeddings/", "class image": "output/personalize/.class_images/"}
    fits = name.startswith(starts[place]) if place in starts else name.endswith(ends[place])
    return fits and name.endswith(".safetensors")


def flip(path: Path, chance: random.Random) -> str:
    """Flip one bit of a file; where it was."""
    data = bytearray(path.read_bytes())
    at, bit = chance.randrange(len(data)), chance.randrange(8)
    data[at] ^= 1 << bit
    path.write_bytes(data)
    header = 8 + int.from_bytes(path.read_bytes()[:8], "little") if at >= 8 else 8
    part = "length" if at < 8 else "header" if at < header else "tensors"
    return f"{path.name}, byte {at} of {len(data)}, bit {bit}, in its {part}"

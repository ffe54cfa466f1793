"""What becomes of a file in which a bit is flipped when the nodes use it.

Import it where ComfyUI can be imported.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from ...core.errors import InputError
from . import jobs
from .rig import use_store
from .saved_files import check, forget_names, make_files, report_of_loading, report_of_training
from .stores import contents

ADAPTERS = ("lora", "tortured")
"""Names of a LoRA and of a personalization with learned words."""
STEPS = 2


def prepare(models: jobs.Models, store: Path) -> list[Any]:
    """A store with a file of every kind; what later runs in it give where nothing is damaged."""
    jobs.call(jobs.SavePersonalization, personalization=make_files(models, store, STEPS), name=ADAPTERS[0])
    later = store.with_name("later")
    shutil.copytree(store, later)
    use_store(later)
    report_of_training(models, STEPS + 1)
    return [contents(later), loaded(models)]


def loaded(models: jobs.Models) -> str:
    """What Load Personalization says of all adapters."""
    forget_names()
    reports = []
    for name in (f"{stem}.safetensors" for stem in ADAPTERS):
        check(name)
        reports.append(report_of_loading(models, name))
    return "\n".join(reports)


def use(models: jobs.Models, place: str, store: Path, later: dict[str, str], report: str) -> str:
    """Use a store in which one file is damaged; what was noticed, or "lost: ..."."""
    if place in ("adapter", "embedding"):
        return load(models, place, store, report)
    if place == "class image":
        jobs.class_images(models)
        said = "made again"
    else:
        said = run_again(models, place, store)
    if said.startswith("lost"):
        return said
    bad = [name for name, digest in contents(store).items() if is_of(place, name) and digest != later.get(name)]
    return f"lost: {bad[0]} differs" if bad else said


def load(models: jobs.Models, place: str, store: Path, report: str) -> str:
    """What Load Personalization makes of a damaged file."""
    try:
        said = loaded(models)
    except InputError:
        return "refused"
    if "Warning" in said.replace(report, ""):
        return "warned"
    vectors = (folder / "embeddings" / "tortured.safetensors" for folder in (store.with_name("whole"), store))
    if place == "embedding" and jobs.same(*(load_file(path) for path in vectors)):
        return "a foreign file with the same vectors"
    return "lost: loaded without a word"


def run_again(models: jobs.Models, place: str, store: Path) -> str:
    """What a run does with a damaged file; where it names the file to remove, that is done."""
    steps, said = STEPS if place == "result" else STEPS + 1, ""
    try:
        report = report_of_training(models, steps)
    except InputError as refusal:
        path = next(store.rglob("state.safetensors"))
        if str(path.relative_to(store)) not in str(refusal):
            return f"lost: refused without the name of the file: {refusal}"
        path.unlink()
        said, report = "refused by name, then ", report_of_training(models, steps)
    return said + ("resumed" if "resumed" in report else "loaded" if "loaded" in report else "made again")


def is_of(place: str, name: str) -> bool:
    """Whether a file of the store is of this kind."""
    ends = {"state": "/state.safetensors", "result": f"/adapter-{STEPS:06d}.safetensors"}
    starts = {"adapter": "loras/", "embedding": "embeddings/", "class image": "output/personalize/.class_images/"}
    fits = name.startswith(starts[place]) if place in starts else name.endswith(ends[place])
    return fits and name.endswith(".safetensors")

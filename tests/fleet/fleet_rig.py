"""Workers without ComfyUI, and plans on disk."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from comfyui_personalize.fleet.engine import Events
from comfyui_personalize.fleet.errors import JobFailed

SILENT = Events(started=lambda worker, job: None, ended=lambda outcome, again: None, progress=lambda told: None)


class Doubler:
    """Doubles a number, leaves a mark in a folder each time, and waits, fails or dies as its job says."""

    def __init__(self, number: int):
        self.number = number

    def describe(self) -> Mapping[str, Any]:
        return {"code": "one"}

    def run(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        time.sleep(job.get("seconds", 0.0))
        if job.get("fails"):
            raise JobFailed(job["fails"])
        if "folder" in job:
            mark = Path(job["folder"]) / f"{job['name']}.{time.monotonic_ns()}"
            if "dies_once" in job and not any(mark.parent.glob(f"{job['name']}.*")):
                mark.with_name(f"{job['name']}.died").touch()
                os._exit(1)
            mark.with_name(f"{mark.name}.done").touch()
        return {"value": 2 * job["value"], "pid": os.getpid()}

    def progress(self) -> Mapping[str, Any]:
        return {"node": "1", "step": 1, "steps": 2, "loss": 0.5}

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        pass


def photo(path: Path, colour: str = "teal") -> None:
    """A photo on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64), colour).save(path)


def write_plan(folder: Path, **fields: Any) -> Path:
    """A plan with one subject's folder, changed by `fields`."""
    if not (folder / "rows").exists():
        photo(folder / "rows" / "rex" / "1.png")
    plan = {"workflow": "01", "subjects": "rows", "noun": "dog", "output": "out"} | fields
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(plan, sort_keys=False), encoding="utf-8")
    return path

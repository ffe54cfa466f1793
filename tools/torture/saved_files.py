"""A file of every kind that a personalization leaves, and the nodes that use them; for trials that damage one.

Import it where ComfyUI can be imported.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import folder_paths

from ...core.errors import InputError
from ...nodes.load_personalization import LoadPersonalization
from . import jobs
from .rig import use_store


def make_files(models: jobs.Models, store: Path, steps: int) -> Any:
    """A store with a saved personalization with learned words, class images and a run of so many steps; what that run
    gives to save."""
    use_store(store)
    jobs.run_job("textual inversion", models, steps)
    shutil.rmtree(store / "output" / "personalize" / jobs.RUN)
    personalization = train(models, steps)[5]
    jobs.class_images(models)
    return personalization


def train(models: jobs.Models, steps: int) -> tuple[Any, ...]:
    """The run of the store: its outputs."""
    return jobs.train(models, steps, options=jobs.options(text_encoder_rate=1e-4))


def report_of_training(models: jobs.Models, steps: int) -> str:
    """What the run of the store reports."""
    return train(models, steps)[6]


def forget_names() -> None:
    """The caches of file names are ComfyUI's own; a new store has other files."""
    folder_paths.filename_list_cache.clear()


def check(name: str) -> None:
    """The check when a graph is queued.

    Raises:
        InputError: what the node says against the file.
    """
    checked = LoadPersonalization.validate_inputs(name)
    if checked is not True:
        raise InputError("file", "a bad one", "", str(checked))


def report_of_loading(models: jobs.Models, name: str) -> str:
    """What Load Personalization reports."""
    model, clip, _ = models
    return jobs.call(LoadPersonalization, name=name, model=model, clip=clip)[4]


def load_as_a_user(models: jobs.Models, name: str) -> str:
    """The list of the editor, the check when it is queued, the node itself; its report.

    Raises:
        InputError: what the node says against the file.
    """
    forget_names()
    LoadPersonalization.define_schema()
    check(name)
    LoadPersonalization.fingerprint_inputs(name)
    return report_of_loading(models, name)

"""What a plan says: its schema, checked as a whole before anything starts.

A plan is a YAML file. Paths in it are relative to the plan's own folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from .errors import PlanError

Value = bool | int | float | str
Overrides = dict[str, dict[str, Value]]
"""By node title, then by input."""
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]*$", max_length=80)]


class _Strict(BaseModel):
    """Unknown fields are mistakes, not comments."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Subject(_Strict):
    """A row of the table: who is learned, from what, and what is drawn.

    Attributes:
        name: of the job and of its folder among the results.
        photos: a folder (path or fsspec URL); captions and masks lie beside the photos, as Photos from Folder reads
            them.
        class_noun: what the subject is; None keeps the workflow's.
        identifier: the word that will mean it; None keeps the workflow's, for example Identifier Picker's.
        prompts: drawn one after the other with the same adapter; {V} is the identifier. Empty keeps the workflow's.
        overrides: values for this subject alone.
    """

    name: Name
    photos: str = Field(min_length=1)
    class_noun: str | None = Field(default=None, alias="noun", min_length=1)
    identifier: str | None = Field(default=None, min_length=1)
    prompts: list[str] = []
    overrides: Overrides = {}


class ComfyUI(_Strict):
    """The ComfyUI that every worker starts. Left open: the one that this extension is installed in.

    Attributes:
        directory: the folder with main.py.
        python: its interpreter.
        base_directory: where its models and custom nodes lie, if not in `directory`.
        arguments: more options of main.py, such as --lowvram.
    """

    directory: Path | None = None
    python: str | None = None
    base_directory: Path | None = None
    arguments: list[str] = []


class Workers(_Strict):
    """What one worker takes.

    Attributes:
        count: how many; *auto* is one for each GPU, or one on a CPU.
        gpus: of each worker.
        memory_gb: of the host, for Ray's bookkeeping.
        threads: of each worker's server; *auto* is what a lone run has.
    """

    count: int | Literal["auto"] = Field(default="auto", ge=1)
    gpus: float = Field(default=1.0, ge=0.0)
    memory_gb: float = Field(default=0.0, ge=0.0)
    threads: int | Literal["auto"] = Field(default="auto", ge=1)


class Retries(_Strict):
    """When a job is given up.

    Attributes:
        lost: how often its worker may be lost.
        seconds: pause before the first new try; doubled each time, at most five minutes.
    """

    lost: int = Field(default=5, ge=0)
    seconds: float = Field(default=5.0, ge=0.0)


class Plan(_Strict):
    """The whole of it.

    Attributes:
        workflow: a file in API form, or the name of one of this extension's workflows.
        subjects: rows; or a csv or jsonl file of them; or a folder with a folder for each subject.
        output: where results go: a folder or an fsspec URL.
        work: a folder that all workers share, for runs that go on after a loss; default the folder `work` in
            `output`, where that is local.
        class_noun, identifier: for rows that give none.
        overrides: for every subject; a row's own win.
        sweep: values by "node title / input": each subject is run with each combination.
        prompt: title of the node whose text is the prompt, where the workflow has several.
        pictures: titles of the nodes whose pictures are kept; empty = all that save pictures.
    """

    version: Literal[1] = 1
    workflow: str
    subjects: list[Subject] | str
    output: str = Field(min_length=1)
    work: Path | None = None
    class_noun: str | None = Field(default=None, alias="noun", min_length=1)
    identifier: str | None = Field(default=None, min_length=1)
    overrides: Overrides = {}
    sweep: dict[str, list[Value]] = {}
    prompt: str | None = None
    pictures: list[str] = []
    comfyui: ComfyUI = ComfyUI()
    workers: Workers = Workers()
    retries: Retries = Retries()


def parse(model: type[BaseModel], fields: Any, where: str) -> Any:
    """Fields as a model. Raises: PlanError, naming every field: got, expected."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise PlanError([_sentence(where, found) for found in error.errors()]) from None


def _sentence(where: str, found: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in found["loc"]) or "the whole"
    got = "nothing" if found["type"] == "missing" else repr(found.get("input"))
    expected = "no such field" if found["type"] == "extra_forbidden" else str(found["msg"])
    return f"{where}: {place}: got {got[:120]}, expected: {expected}"


def read_yaml(path: Path) -> Any:
    """A YAML file. Raises: PlanError."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError([f"{path}: cannot be read ({error.strerror or error})"]) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PlanError([f"{path}: is no YAML: {' '.join(str(error).split())}"]) from None


def read_plan(path: Path) -> Plan:
    """The plan of a file; its table is not read yet. Raises: PlanError."""
    fields = read_yaml(path)
    if not isinstance(fields, dict):
        raise PlanError([f"{path}: got {type(fields).__name__}, expected fields such as workflow, subjects and output"])
    plan: Plan = parse(Plan, fields, path.name)
    return plan

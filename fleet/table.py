"""The table of subjects: rows in the plan, a csv or jsonl file, or a folder with a folder for each subject."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import PlanError
from .plan import Plan, Subject, parse, read_yaml
from .storage import Storage, is_url, resolve

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".avif")
PROMPTS_BETWEEN = "|"
ABOUT = "subject.yaml"
"""In a subject's folder: its noun, identifier, prompts and overrides."""
OVERRIDE = " / "
"""Between a node's title and its input, in a column's name and in `sweep`."""


def read_subjects(plan: Plan, folder: Path) -> list[Subject]:
    """The rows, each checked, with paths made whole.

    Raises:
        PlanError: names every bad row.
    """
    rows = _rows(plan, folder)
    problems: list[str] = []
    subjects: list[Subject] = []
    for where, fields in rows:
        try:
            subjects.append(_subject(plan, folder, where, fields))
        except PlanError as error:
            problems += error.problems
    problems += _twice(rows, [str(fields.get("name")) for _, fields in rows])
    if not rows:
        problems.append("subjects: got none, expected at least one row")
    if problems:
        raise PlanError(problems)
    return subjects


def _rows(plan: Plan, folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Where each row stands, and its fields."""
    if isinstance(plan.subjects, list):
        return [(f"subjects, row {number}", row.model_dump()) for number, row in enumerate(plan.subjects, 1)]
    place = resolve(plan.subjects, folder)
    if place.endswith((".csv", ".jsonl")):
        return list(_of_text(place, Storage.of_file(place)))
    return [(f"{place}: {name}", fields) for name, fields in _of_folders(place)]


def _of_text(place: str, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    name = place.rsplit("/", 1)[-1]
    if place.endswith(".csv"):
        for number, line in enumerate(csv.DictReader(io.StringIO(text)), 2):
            yield f"{name}, line {number}", _of_csv(line)
        return
    for number, raw in enumerate(text.splitlines(), 1):
        if raw.strip():
            yield f"{name}, line {number}", _of_json(f"{name}, line {number}", raw)


def _of_json(where: str, raw: str) -> dict[str, Any]:
    try:
        fields = json.loads(raw)
    except json.JSONDecodeError as error:
        raise PlanError([f"{where}: is no JSON: {error}"]) from None
    if not isinstance(fields, dict):
        raise PlanError([f"{where}: got {type(fields).__name__}, expected an object with name, photos and noun"])
    return fields


def _of_csv(line: dict[str, Any]) -> dict[str, Any]:
    """A csv line: empty cells are left out, prompts stand between |, other columns are "node title / input"."""
    fields: dict[str, Any] = {}
    for column, cell in line.items():
        if column is None:
            fields["more cells than columns"] = cell
        elif cell is None or not cell.strip():
            continue
        elif column == "prompts":
            fields["prompts"] = [prompt.strip() for prompt in cell.split(PROMPTS_BETWEEN) if prompt.strip()]
        elif OVERRIDE in column:
            title, _, key = column.partition(OVERRIDE)
            fields.setdefault("overrides", {}).setdefault(title, {})[key] = _value(cell.strip())
        else:
            fields[column] = cell.strip()
    return fields


def _value(cell: str) -> bool | int | float | str:
    """A cell as the widget's kind of value."""
    if cell.lower() in ("true", "false"):
        return cell.lower() == "true"
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell


def _of_folders(place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each folder with photos is a subject; `subject.yaml` in it says more."""
    root = Path(place)
    if is_url(place) or not root.is_dir():
        raise PlanError([f"subjects: got {place!r}, expected a csv or jsonl file, or a folder with a folder for each "
                         "subject"])
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        about = read_yaml(folder / ABOUT) if (folder / ABOUT).exists() else {}
        if not isinstance(about, dict):
            raise PlanError([f"{folder / ABOUT}: got {type(about).__name__}, expected fields such as noun and prompts"])
        yield folder.name, {"name": folder.name, "photos": str(folder), **about}


def _subject(plan: Plan, folder: Path, where: str, fields: dict[str, Any]) -> Subject:
    row: Subject = parse(Subject, fields, where)
    photos = resolve(row.photos, folder)
    problems = [*_problems_of_photos(where, photos), *_problems_of_words(where, row)]
    if problems:
        raise PlanError(problems)
    return row.model_copy(update={"photos": photos, "class_noun": row.class_noun or plan.class_noun,
                                  "identifier": row.identifier or plan.identifier})


def _problems_of_photos(where: str, photos: str) -> list[str]:
    try:
        names = Storage(photos).names()
    except (OSError, ValueError, ImportError) as error:
        return [f"{where}: photos: got {photos!r}, which cannot be listed ({' '.join(str(error).split())})"]
    if not any(name.lower().endswith(PICTURES) for name in names):
        return [f"{where}: photos: got {photos!r}, expected a folder with at least one photo"]
    return []


def _problems_of_words(where: str, row: Subject) -> list[str]:
    problems = []
    if row.identifier is not None and len(row.identifier.split()) != 1:
        problems.append(f"{where}: identifier: got {row.identifier!r}, expected one word, such as 'sks'")
    problems += [f"{where}: prompts: got {prompt!r}, expected {{V}} in it, where the identifier goes"
                 for prompt in row.prompts if "{V}" not in prompt]
    return problems


def _twice(rows: list[tuple[str, dict[str, Any]]], names: list[str]) -> list[str]:
    first: dict[str, str] = {}
    problems = []
    for (where, _), name in zip(rows, names, strict=True):
        if name.lower() in first:
            problems.append(f"{where}: name: got {name!r}, expected one that no other row has ({first[name.lower()]})")
        first.setdefault(name.lower(), where)
    return problems

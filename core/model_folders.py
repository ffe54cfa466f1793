"""Paths that a user types, and the model folders and files behind them: whatever lies there, a refusal says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from .errors import InputError, require

LONGEST_REASON = 300


def path_of(text: str | Path, name: str) -> Path:
    """The path that a text names; `~` is the user's own folder. Whether something is there is another question.

    Raises:
        InputError: no file system could have such a path, or it cannot be looked at.
    """
    try:
        path = Path(text).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as reason:
        raise InputError(name, f"{str(text)[:80]!r}: {_told(reason)}", "a path on this machine",
                         "Type or paste it again.") from reason
    return path


def read_config(folder: str | Path, name: str = "path") -> dict[str, Any]:
    """The `config.json` of a transformers folder.

    Args:
        name: the widget that holds the path.

    Raises:
        InputError: when there is none, or it holds no JSON object.
    """
    place = path_of(folder, name)
    file = place / "config.json"
    require(file.is_file(), name, f"{str(place)!r}, where there is no config.json", "a transformers model folder",
            "Give the folder that holds config.json, the weights and the tokenizer files.")
    with reading(name, file.name, "a transformers model folder"):
        return read_object(file)


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ValueError: it holds something else.
    """
    found = json.loads(file.read_text(encoding="utf-8-sig"))  # some editors begin with a byte order mark
    if not isinstance(found, dict):
        raise ValueError(f"a JSON {type(found).__name__} where an object should be")
    return found


@contextmanager
def reading(name: str, what: str, expected: str) -> Iterator[None]:
    """Within the context everything that goes wrong is the fault of what is read.

    Other packages read these folders, and a damaged or strange one fails in any of their lines: with KeyError,
    TypeError, RecursionError, UnpicklingError and others.

    Raises:
        InputError: with the name of the widget and the reason.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as reason:
        raise InputError(name, f"{what}, which cannot be read ({_told(reason)})", expected,
                         "Download or save it again.") from reason


def _told(reason: Exception) -> str:
    """What an exception says, in one line; torch's advice to unpickle whatever it is stays out."""
    if isinstance(reason, UnpicklingError):
        return "it holds more than tensors, or is damaged"
    said = "".join(filter(str.isprintable, " ".join(str(reason).split())))
    return f"{type(reason).__name__}: {said[:LONGEST_REASON]}" if said else type(reason).__name__

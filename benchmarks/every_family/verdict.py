"""What is said of a case: its figures, the reasons where there are none, and what counts as good."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

LIMITS: dict[str, Callable[[Any], bool]] = {
    "prediction_error": lambda error: error <= 1e-5,
    "mixed_text_error": lambda error: error <= 1e-5,
    "gradient_error": lambda error: error <= 0.02,
    "lora_keys": lambda keys: keys.split("/")[0] == keys.split("/")[1] != "0",
    "lora_error": lambda error: error <= 1e-5,
    "loss_ratio": lambda ratio: ratio < 1,
    "resume_exact": lambda is_exact: is_exact,
    "restored": lambda is_restored: is_restored,
    "dci": lambda answer: answer == "works",
    "identifier": lambda answer: answer == "works",
}
"""Every figure of a case, in the order of docs/families.json, and whether it is good."""
ADDITIONAL = ("dci", "identifier")
"""What a family may lack and learn all the same."""
KEYS = ("name", *LIMITS)


class NotThere(Exception):
    """The family has no such thing; the message says why."""


def failures(record: Mapping[str, Any]) -> list[str]:
    """The figures of a record that are not good, of those that learning needs; those that do not apply are left out."""
    return [key for key, is_good in LIMITS.items() if key not in ADDITIONAL
            and (has_failed(record, key) if record[key] is None else not is_good(record[key]))]


def has_failed(record: Mapping[str, Any], key: str) -> bool:
    """Whether a figure is missing because something went wrong."""
    parts = (part.partition(": ") for part in record.get("why", "").split("; "))
    return any(key in keys.split(", ") and text.startswith("fails") for keys, _, text in parts)


def is_refused(record: Mapping[str, Any]) -> bool:
    """Whether the trainer refuses the family before anything is loaded."""
    return "refused" in record.get("why", "")


def reason(error: BaseException) -> str:
    """An exception in one line: what it says, and the last lines of our own and of all code that it passed."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if {"core", "nodes"} & set(Path(frame.filename).parts[-5:-1])]
    places = dict.fromkeys(f"{'/'.join(Path(frame.filename).parts[-2:])}:{frame.lineno}"
                           for frame in (*own[-1:], frames[-1]))
    return f"fails with {type(error).__name__}: {' '.join(str(error).split())[:200]} ({', '.join(places)})"

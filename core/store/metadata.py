"""What files say of themselves: JSON that may come from anybody, and one table of rules per kind of file.

Whatever a stranger's file says, `parse` and `check` either give plain values of the stated kinds, or an `InputError`
that names the file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import InputError

VERSION = 1
"""Of every format that this package writes; a file that says nothing is of version 1."""
LONGEST_TEXT, MOST_ENTRIES, LARGEST = 100_000, 1_000_000, 2**63
CHOOSE = "Choose another file, or save it again."
DEEPEST = 32
"""Levels of lists and objects; what this package writes has seven."""
SHOWN = 60


class NewerVersion(InputError):
    """A file that a newer version of this package wrote; `value` is its metadata."""

    def __init__(self, path: Path, value: dict[str, Any]):
        self.value = value
        super().__init__("file", f"{path}: a file of version {value['version']}", f"version {VERSION} or older",
                         "A newer version of this extension wrote it: update the extension.")


@dataclass(frozen=True)
class Rule:
    """What one value must be.

    Attributes:
        expected: in words.
        holds: whether a value is that.
        is_optional: whether it may be missing.
    """

    expected: str
    holds: Callable[[Any], bool]
    is_optional: bool = False


Rules = Mapping[str, "Rule | Rules"]
"""A rule for every known name; other names are left alone, so that a file may say more."""


def optional(rule: Rule) -> Rule:
    """The same rule for a value that may be missing."""
    return replace(rule, is_optional=True)


def is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_TEXT


def is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def list_of(holds: Callable[[Any], bool], least: int = 0) -> Callable[[Any], bool]:
    """Whether a value is a list of so many entries or more, each of which holds."""
    return lambda value: isinstance(value, list) and least <= len(value) <= MOST_ENTRIES and all(map(holds, value))


def table_of(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether a value is an object whose every entry holds."""
    return lambda value: isinstance(value, dict) and all(map(holds, value.values()))


def is_file_name(value: Any) -> bool:
    """Whether a value names a file below a folder, `/` between folders."""
    return (is_text(value) and bool(value) and "\0" not in value and "\\" not in value
            and not PurePosixPath(value).is_absolute() and ".." not in PurePosixPath(value).parts)


def is_figure(value: Any) -> bool:
    """Whether a value is one validation of a run: its step, and finite figures."""
    return isinstance(value, dict) and is_whole(value.get("step")) and all(map(is_number, value.values()))


TEXT, WHOLE = Rule("a text", is_text), Rule("a whole number, 0 or more", is_whole)
NUMBER, TEXTS = Rule("a finite number", is_number), Rule("a list of texts", list_of(is_text))
OBJECTS = Rule("a list of objects", list_of(lambda value: isinstance(value, dict)))
NUMBERS = Rule("a list of finite numbers", list_of(is_number))

OPTIONS = Rule("an object, with a whole number for min_rank",
               lambda value: isinstance(value, dict) and is_whole(value.get("min_rank", 0)))

ADAPTER: Rules = {
    "identifiers": Rule("a list of one text or more", list_of(is_text, least=1)), "class_nouns": TEXTS,
    "captions": TEXTS, "base_model_hash": TEXT, "text_encoder_hash": TEXT, "steps": WHOLE, "exposure": TEXT,
    "readers": TEXT, "config": {"learning_rate": NUMBER, "resolution": WHOLE, "options": optional(OPTIONS)},
    "data_hash": optional(TEXT),
    "data_options": optional(OBJECTS),
    "words": optional(Rule("lists of words", table_of(list_of(is_text)))),
    "embeddings": optional(Rule("a file name for each word", table_of(is_file_name))),
}
VECTORS: Rules = {"words": Rule("lists of words", table_of(list_of(is_text)))}
EMBEDDING: Rules = {"word": TEXT}
RUN: Rules = {"key": TEXT, "label": optional(TEXT)}
STATE: Rules = {
    "key": TEXT, "step": WHOLE,
    "state": {
        "step": WHOLE, "losses": NUMBERS,
        "figures": optional(Rule("a list of validations, each with its step", list_of(is_figure))),
        "loss_of_zeros": optional(NUMBER), "relative_change": optional(NUMBER),
        "optimizer": {"param_groups": OBJECTS, "entries": Rule("an object of numbers", table_of(is_number))},
        "lr_scheduler": {"base_lrs": NUMBERS, "_last_lr": NUMBERS, "last_epoch": WHOLE, "_step_count": WHOLE},
    },
}
CACHE: Rules = {"digest": TEXT}
CLASS_IMAGE: Rules = {"class_image": WHOLE}
NOUN_EVIDENCE: Rules = {"noun_evidence": NUMBERS}


def parse(path: Path, text: str | bytes) -> dict[str, Any]:
    """The JSON object of a file, of this version's kind.

    Raises:
        InputError: for anything else: broken, nested without end, a name twice, NaN, no Unicode, a newer version.
    """
    try:
        value = json.loads(text, object_pairs_hook=_no_name_twice, parse_constant=_refuse)
        _refuse_depth(value)
        json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate is no text that anybody could show
    except (ValueError, RecursionError) as reason:
        raise InputError("file", f"{path}: a file with broken metadata", "metadata that this package wrote",
                         CHOOSE) from reason
    if not isinstance(value, dict):
        raise InputError("file", f"{path}: a file with broken metadata", "an object", CHOOSE)
    return _of_this_version(path, value)


def check(path: Path, value: Mapping[str, Any], rules: Rules, fix: str = CHOOSE) -> None:
    """Refuse metadata that is not what the rules say.

    Raises:
        InputError: names the file, the entry, what it is and what it should be, and `fix`.
    """
    _check(path, value, rules, fix, "")


def _check(path: Path, value: Mapping[str, Any], rules: Rules, fix: str, above: str) -> None:
    for name, rule in rules.items():
        where = f"{above}{name}"
        if isinstance(rule, Rule):
            if name not in value and rule.is_optional:
                continue
            if name not in value or not rule.holds(value[name]):
                raise _wrong(path, where, value, rule.expected, fix)
        else:
            if not isinstance(value.get(name), dict):
                raise _wrong(path, where, value, "an object", fix)
            _check(path, value[name], rule, fix, f"{where}.")


def _wrong(path: Path, where: str, value: Mapping[str, Any], expected: str, fix: str) -> InputError:
    name = where.rpartition(".")[2]
    got = f"{where} = {shorten(value[name])}" if name in value else f"no {where}"
    return InputError("file", f"{path}: {got} in its metadata", expected, fix)


def shorten(value: Any) -> str:
    """A value as text, cut where it is long."""
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _of_this_version(path: Path, value: dict[str, Any]) -> dict[str, Any]:
    version = value.get("version", VERSION)
    if not is_whole(version) or version < 1:
        raise InputError("file", f"{path}: version = {shorten(version)} in its metadata", "a whole number from 1 on",
                         CHOOSE)
    if version > VERSION:
        raise NewerVersion(path, value)
    return value


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return value


def _refuse_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        level = [inner for outer in level if isinstance(outer, dict | list)
                 for inner in (outer.values() if isinstance(outer, dict) else outer)]
    if level:
        raise ValueError(f"nested deeper than {DEEPEST} levels")


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number in JSON")

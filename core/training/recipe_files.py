"""Recipes as files: those of `recipes/`, and the user's own, which win. One function finds a loaded model's."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError, require
from ..model_folders import read_object, reading
from .recipe import VALUES, Recipe, overlaid

FOLDER = Path(__file__).parent / "recipes"
DEFAULT = "default.json"
VERSION = 1
KEYS = ("version", "name", "models", "shape", "file_words", "advice", "values")
LIKE = "Compare with a file of core/training/recipes, or remove it."


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """By what a loaded model is recognised.

    Attributes:
        classes: names of the classes of its family, the nearest first.
        shape: of its network, by name.
        file: name of the file that it was loaded from; empty where that is not known.
    """

    classes: Sequence[str]
    shape: Mapping[str, Any] = field(default_factory=dict)
    file: str = ""


@dataclass(frozen=True, kw_only=True)
class RecipeFile:
    """What one file says.

    Attributes:
        models: classes that it is for.
        shape: what their network must be like.
        file_words: one of them must be in the name of the model's file; empty = any name.
        values: of a recipe; those that are not there are another's.
    """

    name: str
    models: tuple[str, ...]
    shape: Mapping[str, Any]
    file_words: tuple[str, ...]
    values: Mapping[str, Any]
    sources: Mapping[str, str]
    advice: str

    def rank(self, model: ModelFacts) -> tuple[int, int, int] | None:
        """How well it fits, the least is the best: the nearest class, then a word in the file's name, then the shape.
        None = not."""
        classes = [number for number, name in enumerate(model.classes) if name in self.models]
        words = [word for word in self.file_words if word.lower() in model.file.lower()]
        if not classes or self.file_words and not words:
            return None
        if any(name not in model.shape or model.shape[name] != value for name, value in self.shape.items()):
            return None
        return classes[0], -max(map(len, words), default=0), -len(self.shape)


def recipe(model: ModelFacts, own: Path | None = None) -> Recipe:
    """The recipe of a loaded model: the user's, over what is known of its family, or over what fits any.

    Args:
        own: the user's folder of recipes; it need not exist.

    Raises:
        InputError: one of the user's files cannot be used; names the file.
    """
    known = _best(published(), model) or _default()
    found = _complete(known)
    theirs = _best(tuple(read_recipe(path) for path in sorted(own.glob("*.json"))) if own else (), model)
    return found if theirs is None else overlaid(found, theirs.name, theirs.values, theirs.sources,
                                                 theirs.advice or found.advice)


@functools.cache
def published() -> tuple[RecipeFile, ...]:
    """The recipes that come with the extension, without the one for any other family."""
    return tuple(read_recipe(path) for path in sorted(FOLDER.glob("*.json")) if path.name != DEFAULT)


def read_recipe(path: Path) -> RecipeFile:
    """What a file says.

    Raises:
        InputError: it is no recipe, or says what a recipe cannot; names the file.
    """
    with reading(f"recipe {path}", path.name, "a recipe as JSON"):
        content = read_object(path)
    try:
        return _checked(content, path.stem, path.parent == FOLDER)
    except InputError as fault:
        raise InputError(f"recipe {path}: {fault.name}", fault.got, fault.expected, fault.fix) from fault


def _checked(content: Mapping[str, Any], stem: str, is_ours: bool) -> RecipeFile:
    _known_names("key", content, KEYS)
    version = content.get("version")
    require(version == VERSION, "version", repr(version), str(VERSION),
            "Update the extension for a newer file." if isinstance(version, int) and version > VERSION else LIKE)
    name = content.get("name", stem)
    require(isinstance(name, str) and bool(name), "name", repr(name), "a text", LIKE)
    values = content.get("values", {})
    require(isinstance(values, dict) and bool(values), "values", repr(values), "one or more values by name", LIKE)
    _known_names("values", values, VALUES)
    advice = content.get("advice", "")
    require(isinstance(advice, str), "advice", repr(advice), "a text", LIKE)
    found = RecipeFile(name=name, models=_texts(content, "models"), shape=_mapping(content, "shape"), advice=advice,
                       file_words=_texts(content, "file_words"), values=_plain(values),
                       sources=_sources(values, "" if is_ours else f"the file {stem}"))
    if not is_ours:
        require(bool(found.models), "models", "none", "names of ComfyUI's model classes, for example SDXL", LIKE)
        overlaid(_complete(_default()), name, found.values, {}, found.advice)
    return found


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values without their sources; a value stands alone, or as {"value": ..., "source": ...}."""
    plain = {name: value["value"] if _has_source(value) else value for name, value in values.items()}
    shift = plain.get("shift")
    if isinstance(shift, dict):
        require(all(size.isdecimal() for size in shift), "shift", repr(shift), "resolutions in pixels as names", LIKE)
        plain["shift"] = {int(size): value for size, value in shift.items()}
    return plain


def _sources(values: Mapping[str, Any], otherwise: str) -> dict[str, str]:
    return {name: str(value["source"]) if _has_source(value) else otherwise for name, value in values.items()}


def _has_source(value: object) -> bool:
    return isinstance(value, dict) and value.keys() == {"value", "source"}


def _texts(content: Mapping[str, Any], name: str) -> tuple[str, ...]:
    found = content.get(name, [])
    require(isinstance(found, list) and all(isinstance(text, str) and text for text in found), name, repr(found),
            "a list of texts", LIKE)
    return tuple(found)


def _mapping(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = content.get(name, {})
    require(isinstance(found, dict), name, repr(found), "values by name", LIKE)
    return dict(found)


def _known_names(what: str, content: Mapping[str, Any], known: Iterable[str]) -> None:
    unknown = [name for name in content if name not in known]
    require(not unknown, what, ", ".join(map(repr, unknown)), f"of {', '.join(known)}", LIKE)


def _best(files: Iterable[RecipeFile], model: ModelFacts) -> RecipeFile | None:
    ranked = [(rank, file) for file in files if (rank := file.rank(model)) is not None]
    return min(ranked, key=lambda found: found[0])[1] if ranked else None


@functools.cache
def _default() -> RecipeFile:
    return read_recipe(FOLDER / DEFAULT)


def _complete(file: RecipeFile) -> Recipe:
    return Recipe(name=file.name, advice=file.advice, sources=file.sources, **file.values)

"""Objectives say what they need; nobody outside their folder asks which class one is."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import comfyui_personalize
from comfyui_personalize.core.objectives import OBJECTIVES, MaskedLoss, ObjectSpecificLoss, warnings_about_masks

ROOT = Path(comfyui_personalize.__path__[0])
CLASSES = {objective.__name__ for objective in OBJECTIVES.values()} | {"Objective"}


def asks_for_a_class(tree: ast.AST) -> list[int]:
    """Lines with isinstance or issubclass on an objective's class, or getattr on something called objective."""
    lines = []
    for call in ast.walk(tree):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
            continue
        names = {name.id for argument in call.args for name in ast.walk(argument) if isinstance(name, ast.Name)}
        if call.func.id in ("isinstance", "issubclass") and names & CLASSES or \
                call.func.id in ("getattr", "hasattr") and "objective" in names:
            lines.append(call.lineno)
    return lines


def test_no_code_outside_the_objectives_asks_an_objectives_class():
    files = [path for part in ("core", "nodes") for path in (ROOT / part).rglob("*.py")
             if "objectives" not in path.parts]
    found = {str(path.relative_to(ROOT)): asks_for_a_class(ast.parse(path.read_text(encoding="utf-8")))
             for path in files}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize("line", ["isinstance(one, MaskedLoss | ObjectSpecificLoss)", "getattr(objective, 'x', 0)"])
def test_such_code_would_be_found(line):
    assert asks_for_a_class(ast.parse(line)) == [1]


def test_what_reads_masks_says_so():
    assert {kind for kind, objective in OBJECTIVES.items() if objective.needs_masks} == {
        "masked_loss", "masked_prior", "object_specific_loss"}


def test_what_draws_class_images_says_so():
    assert [kind for kind, objective in OBJECTIVES.items() if objective.needs_class_images] == ["prior_preservation"]


@pytest.mark.parametrize(("objectives", "has_masks", "has_objects", "expected"), [
    ((), True, False, ["no objective uses them"]),
    ((MaskedLoss(),), True, False, []),
    ((), False, True, ["nothing tells them apart"]),
    ((ObjectSpecificLoss(),), True, True, []),
    ((ObjectSpecificLoss(), MaskedLoss(background_weight=0.5)), True, False, ["a background weight of 0.5"]),
    ((ObjectSpecificLoss(), MaskedLoss(background_weight=1.0)), True, False, []),
])
def test_masks_that_nothing_reads_are_named(objectives, has_masks, has_objects, expected):
    warnings = warnings_about_masks(objectives, has_masks, has_objects)
    assert len(warnings) == len(expected) and all(part in text for part, text in zip(expected, warnings, strict=True))

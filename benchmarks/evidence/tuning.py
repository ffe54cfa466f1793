"""Which rate and how many steps each method gets here: settings tried on held-in subjects, one table of what they gave.

    python -m comfyui_personalize.benchmarks.evidence --tune [--subjects 2] [--workers 4] [--report --write]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .intervals import estimate, frontier_area
from .methods import METHODS, Method, best_recipe

HEAD = """# Settings of the bench's methods

Made by `{command}`.

Every setting on the same {subjects} held-in subjects, measured at half of its steps and at its end. Area: what of the
square of alignment and fidelity a setting's checkpoints dominate. The bench runs each method with the setting of the
largest area, or with one that differs from it by less than 0.01 and drifts less or takes fewer steps; the subjects are
too few for intervals. Held-out subjects were never looked at. Methods that are not listed take the setting of the one
that they vary (ED-LoRA: LoRA's, Custom Diffusion: ICO's). One-shot is compared with its one photo here, in the bench
with all five. A best rate at the edge of those that were tried may have a better one beyond.
"""


def _tried(name: str, label: str, **changes: Any) -> Method:
    return replace(METHODS[name], name=f"{name}@{label}", **changes)


def _rates(name: str, steps: int, *rates: float) -> list[Method]:
    return [_tried(name, f"rate {rate:g}, {steps} steps", learning_rate=rate, steps=steps) for rate in rates]


def _inversion(count: int, rate: float, steps: int) -> Method:
    vectors = METHODS["textual_inversion"].vectors
    assert vectors is not None
    plural = "s" if count > 1 else ""
    return _tried("textual_inversion", f"{count} vector{plural}, rate {rate:g}, {steps} steps", steps=steps,
                  vectors=replace(vectors, count=count, learning_rate=rate))


_ALL: tuple[Method, ...] = (
    *_rates("lora", 160, 5e-4, 1e-3, 2e-3),
    *_rates("dreambooth", 160, 1e-4, 2e-4, 4e-4),
    *_rates("ico", 240, 5e-4, 1e-3, 2e-3),
    *_rates("one_shot", 120, 5e-4, 1e-3, 2e-3),
    *(_inversion(*each) for each in ((1, 1e-2, 160), (1, 1e-2, 300), (4, 1e-2, 300))),
    *(replace(recipe, name=f"best@{label}, rate {recipe.learning_rate:g}") for label, recipe in best_recipe().items()),
)
TRIED: dict[str, Method] = {method.name: method for method in _ALL}


def tuning_table(cells: Mapping[tuple[str, int, int], Mapping[str, Any]]) -> str:
    """One row per setting: area, and fidelity, alignment and drift at its end."""
    rows = ["| method | setting | area | fidelity | alignment | drift |", "|---|---|---|---|---|---|"]
    for name in TRIED:
        own = [cell["checkpoints"] for (method, *_), cell in sorted(cells.items()) if method == name]
        if own:
            area = estimate([frontier_area([(point["alignment"], point["fidelity"]) for point in points])
                             for points in own])
            ends = [estimate([points[-1][measure] for points in own]) for measure in ("fidelity", "alignment", "drift")]
            rows.append(f"| {' | '.join(name.split('@'))} | {area} | {' | '.join(map(str, ends))} |")
    return "\n".join(rows)

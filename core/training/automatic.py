"""What 0 in a number and "auto" in a choice stand for: the recipe's values, put in before a run's key is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..learning.adapter import AdapterConfig
from .config import TrainingOptions
from .recipe import Resolved

AUTO = "auto"
CLASS_IMAGES = 200
"""How many, where nothing else is asked."""
WHY_CLASS_IMAGES = "published: diffusers examples/dreambooth/README.md"


def is_automatic(value: Any) -> bool:
    """Whether a widget leaves its value to the recipe."""
    return bool(value == 0 or value == AUTO)


def asked(given: Mapping[str, Any]) -> dict[str, Any]:
    """What of the settings was chosen."""
    return {name: value for name, value in given.items() if not is_automatic(value)}


def settled(given: Mapping[str, Any], resolved: Resolved) -> tuple[dict[str, Any], list[str]]:
    """The settings without an "auto", and of each that was one its value and the reason in a line."""
    values = {name: resolved.values[name] if is_automatic(value) else value for name, value in given.items()}
    told = [f"{name.replace('_', ' ')} {_shown(values[name])}: {resolved.reasons[name]}"
            for name, value in given.items() if is_automatic(value)]
    return values, told


def chosen_lines(told: Sequence[str]) -> list[str]:
    """What a report says of them; nothing where all was chosen by the user."""
    return ["chosen for you:", *(f"  {line}" for line in told)] if told else []


def has_open_targets(options: TrainingOptions) -> bool:
    """Whether the recipe says which layers learn."""
    return AUTO in (options.adapter.targets, options.text_adapter and options.text_adapter.targets)


def with_targets(options: TrainingOptions, targets: str) -> TrainingOptions:
    """The options with these layers where they left them to the recipe."""
    def fill(adapter: AdapterConfig) -> AdapterConfig:
        return replace(adapter, targets=targets) if adapter.targets == AUTO else adapter

    return replace(options, adapter=fill(options.adapter),
                   text_adapter=options.text_adapter and fill(options.text_adapter))


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)

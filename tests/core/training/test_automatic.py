"""0 and "auto" become the recipe's values, with their reasons; whatever was chosen stays."""

from __future__ import annotations

import pytest

from comfyui_personalize.core.learning.adapter import AdapterConfig
from comfyui_personalize.core.training.automatic import (
    asked,
    chosen_lines,
    has_open_targets,
    is_automatic,
    settled,
    with_targets,
)
from comfyui_personalize.core.training.config import TrainingOptions
from comfyui_personalize.core.training.recipe import Resolved

RESOLVED = Resolved(values={"steps": 250, "learning_rate": 1e-4, "sampler": "euler"},
                    reasons={"steps": "100 per photo", "learning_rate": "published", "sampler": "preset"})


@pytest.mark.parametrize(("value", "expected"), [(0, True), (0.0, True), ("auto", True), (1, False), (1e-7, False),
                                                 ("euler", False), ("", False)])
def test_zero_and_auto_alone_are_automatic(value, expected):
    assert is_automatic(value) == expected


def test_open_values_are_the_recipes_and_told_and_chosen_ones_stay():
    values, told = settled({"steps": 7, "learning_rate": 0.0, "sampler": "auto"}, RESOLVED)
    assert values == {"steps": 7, "learning_rate": 1e-4, "sampler": "euler"}
    assert told == ["learning rate 0.0001: published", "sampler euler: preset"]
    assert asked({"steps": 7, "learning_rate": 0.0, "sampler": "auto"}) == {"steps": 7}


def test_a_report_says_nothing_where_all_was_chosen():
    assert chosen_lines([]) == []
    assert chosen_lines(["steps 2: why"]) == ["chosen for you:", "  steps 2: why"]


def test_open_targets_are_filled_in_both_networks_and_others_are_left():
    both = TrainingOptions(adapter=AdapterConfig(targets="auto"), text_adapter=AdapterConfig(targets="auto"))
    filled = with_targets(both, "attention")
    assert has_open_targets(both) and not has_open_targets(filled)
    assert (filled.adapter.targets, filled.text_adapter.targets) == ("attention", "attention")
    chosen = TrainingOptions(adapter=AdapterConfig(targets="all"))
    assert not has_open_targets(chosen) and with_targets(chosen, "attention") == chosen

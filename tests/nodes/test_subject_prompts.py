"""The node gives lists that stock nodes walk through."""

from __future__ import annotations

import pytest

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.nodes.subject_prompts import OWN, SubjectPrompts


def test_prompts_and_class_prompts_come_in_the_same_order_as_lists():
    prompts, plain = SubjectPrompts.execute("viewpoints", "sks", "dog", 2, "").result
    assert prompts == ["a sks dog seen from the top", "a sks dog seen from the bottom"]
    assert plain == ["a dog seen from the top", "a dog seen from the bottom"]
    assert all(output.is_output_list for output in SubjectPrompts.define_schema().outputs)


def test_templates_of_ones_own_are_filled_line_by_line():
    prompts, _ = SubjectPrompts.execute(OWN, "sks", "dog", 0, " {V} {noun} as a king\n\na {noun}").result
    assert prompts == ["sks dog as a king", "a dog"]


def test_bad_templates_are_refused_when_the_graph_is_queued():
    assert "a text with {V}" in SubjectPrompts.validate_inputs(OWN, "a dog")
    assert "no line" in SubjectPrompts.validate_inputs(OWN, "")
    assert SubjectPrompts.validate_inputs("viewpoints", "") is True
    with pytest.raises(InputError, match="no line"):
        SubjectPrompts.execute(OWN, "sks", "dog", 0, "")

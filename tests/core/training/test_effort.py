"""A kind of subject and an effort become steps and a prior, each with its reason."""

from __future__ import annotations

import pytest

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.training.effort import EFFORTS, KINDS, amount_of
from comfyui_personalize.core.training.recipe import Resolved

RESOLVED = Resolved(values={"steps": 101, "batch": 2}, reasons={"steps": "the recipe's reason", "batch": ""})


@pytest.mark.parametrize(("kind", "effort", "steps", "prior", "images"), [
    ("pet", "normal", 101, "class images", 50), ("pet", "quick", 51, "base model", 0),
    ("pet", "thorough", 152, "class images", 200), ("person", "normal", 202, "class images", 50),
    ("object", "thorough", 152, "base model", 0), ("style", "normal", 101, "none", 0)])
def test_kind_and_effort_give_steps_and_prior(kind, effort, steps, prior, images):
    found = amount_of(RESOLVED, kind, effort)
    assert (found.steps, found.prior, found.class_images) == (steps, prior, images)


def test_no_more_class_images_than_the_steps_use():
    assert amount_of(RESOLVED, "pet", "normal", steps=3).class_images == 6


def test_every_number_is_told_with_its_reason():
    steps, prior = amount_of(RESOLVED, "person", "quick").told
    assert steps.startswith("steps 101: the recipe's reason; times 2 for the kind person (assumed: ")
    assert steps.endswith("; times 0.5 for the effort quick")
    assert prior == "class kept by the base model's own predictions: the effort quick samples no class images"
    assert amount_of(RESOLVED, "pet", "quick", steps=9).told[0] == "steps 9: as asked"


@pytest.mark.parametrize(("kind", "effort", "name"), [("cat", "quick", "kind"), ("pet", "much", "effort")])
def test_another_kind_or_effort_is_refused_by_name(kind, effort, name):
    with pytest.raises(InputError, match=f"^{name}: got "):
        amount_of(RESOLVED, kind, effort)


def test_every_kind_says_where_it_is_from_and_a_style_changes_the_caption():
    assert all(kind.why.startswith(("published: ", "assumed: ")) for kind in KINDS.values())
    assert KINDS["style"].caption_template == "a {noun} in {V} style" and list(EFFORTS) == ["quick", "normal",
                                                                                           "thorough"]

"""Scores of auxiliary nouns: by the text encoder's shifts, and by what a context explains of a picture's error."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from comfyui_personalize.core.dci.noun_scores import (
    EvidenceRecipe,
    ScoredNoun,
    best_first,
    context_gain,
    noise_error,
    rank_by_text,
    report,
)
from comfyui_personalize.core.errors import InputError

RECIPE = EvidenceRecipe(pictures="abc", count=2, prompt="a cat in the snow", plain_prompt="a cat", levels=(0.1, 0.3),
                        seed=0)


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_the_noise_error_is_that_of_the_implied_noise(scale):
    generator = torch.Generator().manual_seed(0)
    latents, noise, wrong = (torch.randn(3, 4, 5, 5, generator=generator) for _ in range(3))
    sigma = 2.5
    noisy = latents + sigma * noise
    denoised = noisy - sigma * (noise + scale * wrong)  # a network that predicts noise + scale * wrong
    torch.testing.assert_close(noise_error(denoised, latents, sigma), (scale * wrong).square().flatten(1).mean(1))
    assert (noise_error(latents, latents, sigma) == 0).all()


def test_the_noise_error_of_a_flow_model_is_that_of_its_velocity():
    generator = torch.Generator().manual_seed(0)
    latents, noise, wrong = (torch.randn(3, 4, 5, 5, generator=generator) for _ in range(3))
    sigma = 0.8
    noisy = (1 - sigma) * latents + sigma * noise
    denoised = noisy - sigma * (noise - latents + wrong)
    torch.testing.assert_close(noise_error(denoised, latents, sigma), wrong.square().flatten(1).mean(1))


def test_the_gain_is_the_share_of_the_error_that_the_context_explains():
    without = torch.tensor([[2.0, 4.0], [1.0, 1.0]])
    torch.testing.assert_close(context_gain(without, 0.75 * without), torch.tensor([0.25, 0.25]))
    assert (context_gain(without, without) == 0).all()
    assert (context_gain(without, 2 * without) == -1).all()


def vectors(text: str) -> torch.Tensor:
    """An embedding whose axes are: anything at all, animals, kitchens, dogs."""
    table = {"object": (1, 0, 0, 0), "cat": (1, 1, 0.1, 0.2), "dog": (1, 1, 0, 1), "puppy": (1, 1, 0, 0.9),
             "teapot": (1, 0, 1, 0), "kitchen": (0, 0, 1, 0)}
    found = [torch.tensor(row).float() for word, row in table.items() if word in text.split()]
    return sum(found, torch.zeros(4))


def test_text_prefers_the_noun_that_fits_the_context_and_is_unlike_the_class():
    ranked = rank_by_text(["cat", "puppy", "teapot"], "dog", lambda noun: f"a {noun} in a kitchen", vectors)
    assert [each.noun for each in ranked] == ["teapot", "cat", "puppy"]
    teapot = ranked[0]
    assert teapot.terms == {"fit": pytest.approx(1.0), "likeness": pytest.approx(0.0)} and teapot.score == 1.0


def test_without_a_class_noun_only_the_fit_counts():
    ranked = rank_by_text(["cat", "teapot"], "", lambda noun: f"a {noun} in a kitchen", vectors)
    assert all(each.score == each.terms["fit"] and each.terms["likeness"] == 0 for each in ranked)


def test_equal_scores_keep_their_order():
    nouns = [ScoredNoun(noun=noun, score=score) for noun, score in (("a", 0.0), ("b", 1.0), ("c", 0.0))]
    assert [each.noun for each in best_first(nouns)] == ["b", "a", "c"]


def test_the_report_lists_every_noun_with_its_parts():
    ranked = [ScoredNoun(noun="cat", score=0.5, terms={"fit": 0.75, "likeness": 0.25})]
    text = report(ranked, "Nouns for 'x'", "what it means")
    assert text.splitlines()[0] == "Nouns for 'x'" and text.splitlines()[-1] == "what it means"
    assert text.splitlines()[2].split() == ["1", "cat", "0.5000", "0.7500", "0.2500"]


@pytest.mark.parametrize("change", [{"pictures": "x"}, {"count": 3}, {"prompt": "p"}, {"plain_prompt": "p"},
                                    {"seed": 1}, {"levels": (0.2,)}])
def test_the_evidence_key_depends_on_everything_that_the_errors_depend_on(change):
    assert dataclasses.replace(RECIPE, **change).key != RECIPE.key == dataclasses.replace(RECIPE).key
    assert len(change) == 1 and set(change) <= {field.name for field in dataclasses.fields(RECIPE)}


@pytest.mark.parametrize(("change", "message"), [({"count": 0}, "pictures: got 0"), ({"levels": ()}, "levels"),
                                                 ({"levels": (0.0,)}, "levels: got .* between 0 and 1")])
def test_an_impossible_recipe_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(RECIPE, **change)

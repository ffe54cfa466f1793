"""The identifier keeps the meaning of its class: eq. 3, whom it reaches, and when it does nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_image_text import TinyImageText
from tiny_unet import photos, same_bits, trainer, training_config, training_data
from torch import nn

from comfyui_personalize.core.data.examples import generator_for
from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.learning.token_vectors import TokenVectorsConfig
from comfyui_personalize.core.objectives.base import TextView
from comfyui_personalize.core.objectives.class_characterizing import ClassCharacterizing
from comfyui_personalize.core.training.config import TrainingConfig

WORD = TokenVectorsConfig(word="sks", count=2, start="random", std=1.0)


def data(noun="dog", identifier="sks"):
    return training_data(tuple(replace(example, identifier=identifier) for example in photos(2, noun)))


def vectors(count=2, width=16, seed=0) -> nn.Parameter:
    return nn.Parameter(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)))


def term(objective, found, used=None, step=0):
    view = TextView(vectors={"sks": {"l": found}} if found is not None else {}, encoder=TinyImageText())
    return objective.text_term(view, used or data(), generator_for(0, "text", step))


@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_the_term_is_one_minus_alpha_times_the_cosine(weight):
    encoder, found = TinyImageText(), vectors()
    own = encoder.embed_tokens([[*found, *encoder.tokenize("dog")]])[0]
    goal = encoder.embed_texts(["dog"])[0]
    cosine = (own * goal).sum() / (own.norm() * goal.norm())
    assert torch.allclose(term(ClassCharacterizing(weight=weight), found), 1 - weight * cosine, atol=1e-6)


def test_the_gradient_is_the_goals_pull_on_the_vectors_alone():
    encoder, found = TinyImageText(), vectors()
    loss = term(ClassCharacterizing(), found)
    (gradient,) = torch.autograd.grad(loss, found)
    moved = term(ClassCharacterizing(), nn.Parameter(found.detach() - 0.1 * gradient))
    assert moved.item() < loss.item()
    assert encoder.table.grad is None


def test_alpha_zero_changes_no_gradient():
    found = vectors()
    (gradient,) = torch.autograd.grad(term(ClassCharacterizing(weight=0.0), found), found)
    assert float(gradient.abs().max()) == 0


def test_the_probability_is_that_of_a_step():
    terms = [term(ClassCharacterizing(probability=0.25), vectors(), step=step).requires_grad for step in range(400)]
    assert sum(terms) / 400 == pytest.approx(0.25, abs=0.06)
    assert not any(term(ClassCharacterizing(probability=0.0), vectors(), step=step).requires_grad
                   for step in range(20))


def test_a_frozen_identifier_is_read_as_its_own_tokens():
    encoder = TinyImageText()
    expected = 1 - encoder.embed_texts(["sks dog"])[0] @ encoder.embed_texts(["dog"])[0]
    assert torch.allclose(term(ClassCharacterizing(), None), expected, atol=1e-6)


def test_vectors_of_the_encoders_own_width_are_taken():
    view = TextView(vectors={"sks": {"g": vectors(width=32), "l": vectors()}}, encoder=TinyImageText())
    found = ClassCharacterizing().text_term(view, data(), generator_for(0, "text", 0))
    assert torch.equal(found, term(ClassCharacterizing(), vectors()))


def test_several_subjects_count_by_their_mean():
    used = replace(data(), examples=(*data().examples, *data("cat").examples))
    one, two = (term(ClassCharacterizing(), vectors(), data(noun)).item() for noun in ("dog", "cat"))
    assert term(ClassCharacterizing(), vectors(), used).item() == pytest.approx((one + two) / 2, abs=1e-6)


def config(objective=None, **others) -> TrainingConfig:
    plain = training_config(objectives=() if objective is None else (objective,), **others)
    return replace(plain, token_vectors=(WORD,))


def run_of(objective, **others):
    with trainer(config(objective, **others), data(), image_text=TinyImageText()) as run:
        list(run.steps())
        return run.state()[0]


def test_in_a_run_alpha_zero_leaves_every_bit_alone():
    assert same_bits(run_of(ClassCharacterizing(weight=0.0)), run_of(None))


def test_in_a_run_it_moves_the_vectors_and_not_the_adapter_at_first():
    with_it, without = (run_of(objective, steps=1, max_grad_norm=0) for objective in (ClassCharacterizing(), None))
    changed = {name for name in without if not torch.equal(with_it[name], without[name])}
    assert any(name.startswith("token_vectors.") for name in changed)
    assert not any(name.startswith("denoiser.") for name in changed)


def test_a_resumed_run_draws_the_same_steps():
    objective = ClassCharacterizing(probability=0.5)
    whole = run_of(objective, steps=4)
    with trainer(config(objective, steps=2), data(), image_text=TinyImageText()) as run:
        list(run.steps())
        saved = run.state()
    with trainer(config(objective, steps=4), data(), image_text=TinyImageText()) as run:
        run.load_state(*saved)
        list(run.steps())
        assert same_bits(run.state()[0], whole)


def test_a_run_in_which_nothing_of_the_words_learns_is_refused():
    with pytest.raises(InputError, match="a frozen identifier and text encoder"):
        ClassCharacterizing().check_learning(data(), (), is_text_side_trained=False)
    ClassCharacterizing().check_learning(data(), (WORD,), is_text_side_trained=False)
    ClassCharacterizing().check_learning(data(), (), is_text_side_trained=True)


def test_a_subject_without_a_class_noun_is_refused():
    with pytest.raises(InputError, match="class_noun: got an empty text"):
        ClassCharacterizing().check(data(noun=""))


@pytest.mark.parametrize(("changes", "message"), [
    ({"weight": -1}, "alpha: got -1"), ({"probability": 1.5}, "probability: got 1.5, expected 0 to 1")])
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        ClassCharacterizing(**changes)


def test_a_config_comes_back_from_its_metadata():
    original = config(ClassCharacterizing(weight=0.5, probability=0.5))
    assert TrainingConfig.from_dict(original.to_dict()) == original

"""Several objects in one photo: eq. 5 over random subsets, each object under its own prompt and mask."""

from collections import Counter
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from tiny_unet import outcome, photos, schedule, trainer, training_config, training_data

from comfyui_personalize.core.data.examples import ObjectName, TrainingData, View, generator_for
from comfyui_personalize.core.data.noise import NoiseSource
from comfyui_personalize.core.data.order import draw_subject_rows
from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.objectives import BasePrior, MaskedLoss, ObjectSpecificLoss, PriorPreservation
from comfyui_personalize.core.training.loss import SUBJECT

WORDS = tuple(ObjectName(identifier=word, class_noun=noun, caption=f"a {word} {noun}")
              for word, noun in (("sks", "dog"), ("tqz", "cat"), ("wrs", "car")))
CAPTION = "a sks dog, a tqz cat and a wrs car"
SOURCE = NoiseSource(schedule())


def masks(count=3):
    """Stripes of the latents, one for each object."""
    stripes = torch.zeros(count, 8, 8)
    for number in range(count):
        stripes[number, :, 2 * number:2 * number + 2] = 1
    return stripes


def scene(count=3, number=0, **changes):
    own = masks(count)
    return replace(photos(number + 1)[number], caption=CAPTION, objects=WORDS[:count], object_masks=own,
                   mask=own.amax(0, keepdim=True), **changes)


def object_rows(objective, data, step=0, batch=1):
    subject = draw_subject_rows(data, SOURCE, 0, step, batch)
    return subject, objective.extra_rows(subject, data, SOURCE, generator_for(0, objective.kind, step))


def test_each_object_is_cut_out_under_its_own_prompt():
    subject, rows = object_rows(ObjectSpecificLoss(objects_per_step=3), TrainingData(examples=(scene(),)))
    assert rows.prompts == tuple(words.caption for words in WORDS) and subject.prompts == (CAPTION,)
    for row, mask in enumerate(masks()):
        assert torch.equal(rows.latents[row], subject.latents[0] * mask) and torch.equal(rows.masks[row, 0], mask)
        assert torch.equal(rows.noise[row], subject.noise[0]) and rows.index[row] == subject.index[0]


def test_every_subset_of_k_objects_is_taken_about_equally_often():
    data = TrainingData(examples=(scene(),))
    subsets = [object_rows(ObjectSpecificLoss(), data, step)[1].prompts for step in range(300)]
    taken = Counter(subsets)
    assert set(taken) == set(combinations([words.caption for words in WORDS], 2))
    assert min(taken.values()) > 70
    assert object_rows(ObjectSpecificLoss(), data, 7)[1].prompts == subsets[7]


def test_the_term_is_the_sum_over_the_objects():
    _, rows = object_rows(ObjectSpecificLoss(objects_per_step=3), TrainingData(examples=(scene(),)))
    error = torch.zeros(3, 4, 8, 8)
    error[0, ..., :2], error[1, ..., 2:4], error[2, ..., :4] = 1, 2, 100  # the last one's error is outside its mask
    assert ObjectSpecificLoss(weight=2).term(outcome(error, rows)) == pytest.approx(2 * (1 / 4 + 2 / 4))


def terms(examples, objectives, batch=1):
    with trainer(training_config(steps=1, batch=batch, objectives=objectives, max_grad_norm=0),
                 training_data(examples)) as run:
        blocks = run._draw_rows(0)
        step = next(run.steps())
        return blocks, step, [parameter.grad.clone() for parameter in run.updates.parameters()]


@pytest.mark.parametrize("k", [1, 2, 3])
def test_eq_5_is_the_sum_of_single_forwards(k):
    blocks, step, gradients = terms((scene(),), [ObjectSpecificLoss(objects_per_step=k)])
    subject, total = blocks[SUBJECT], 0.0
    assert len(blocks["object_specific_loss"]) == k
    fresh = trainer(training_config(objectives=[ObjectSpecificLoss(objects_per_step=k)], max_grad_norm=0),
                    training_data((scene(),)))
    with fresh:
        for prompt in (CAPTION, *blocks["object_specific_loss"].prompts):
            number = None if prompt == CAPTION else [words.caption for words in WORDS].index(prompt)
            mask = torch.ones(1, 8, 8) if number is None else masks()[number]
            latents = subject.latents if number is None else subject.latents * mask
            noisy = fresh.denoiser.schedule.add_noise(latents, subject.noise, subject.index)
            prediction = fresh.denoiser(noisy, subject.index, fresh._text.rows([prompt]))
            # eps~ = eps m + eps_theta (1 - m), not detached
            target = subject.noise * mask + prediction * (1 - mask)
            loss = (target - prediction).square().mean()
            loss.backward()
            total += loss.item()
        for ours, parameter in zip(gradients, fresh.updates.parameters(), strict=True):
            torch.testing.assert_close(ours, parameter.grad, atol=1e-6, rtol=1e-3)
    assert step.loss == pytest.approx(total, rel=1e-4)


def test_one_object_is_eq_4():
    mask = masks(1)
    plain = photos(1, mask=mask, caption=CAPTION, object_caption=WORDS[0].caption)
    _, one, gradients = terms((scene(1),), [ObjectSpecificLoss()])
    _, eq_4, expected = terms(plain, [ObjectSpecificLoss()])
    assert one.terms == eq_4.terms
    assert all(map(torch.equal, gradients, expected))


def test_photos_of_several_objects_and_of_one_mix_in_a_batch():
    """The term of a batch is the mean over its photos, whatever the number of their objects."""
    data = TrainingData(examples=(scene(3), scene(1, number=1)))
    objective = ObjectSpecificLoss(objects_per_step=3)
    _, rows = object_rows(objective, data, batch=2)
    assert len(rows) == 4 and sorted(rows.parents) in ([0, 0, 0, 1], [0, 1, 1, 1])
    error = torch.rand(4, 4, 8, 8, generator=generator_for(0, "error", 0))
    singles = []
    for parent in (0, 1):
        own = [row for row in range(4) if rows.parents[row] == parent]
        singles.append(sum((rows.masks[row] * error[row]).mean() for row in own))
    assert objective.term(outcome(error, rows)) == pytest.approx(float(sum(singles)) / 2, rel=1e-5)
    assert objective.most_rows(2, 3) >= len(rows)


def test_the_masked_loss_takes_all_objects_together():
    data = TrainingData(examples=(scene(2),))
    weight = MaskedLoss(normalise_floor=1).pixel_weight(draw_subject_rows(data, SOURCE, 0, 0, 1))
    assert torch.equal(weight[0, 0], masks(2).sum(0))


def test_the_prior_takes_the_objects_nouns_in_turn():
    data = training_data((scene(),))
    pools = {noun: torch.randn(4, 4, 8, 8) for noun in data.nouns}
    data = replace(data, class_latents=pools, class_prompts={noun: f"a {noun}" for noun in pools})
    run = trainer(training_config(batch=1, objectives=[PriorPreservation(), BasePrior()]), data)
    prompts = [(run._draw_rows(step)["prior_preservation"].prompts, run._draw_rows(step)["base_prior"].prompts)
               for step in range(3)]
    assert prompts == [((f"a {noun}",),) * 2 for noun in ("dog", "cat", "car")]


def test_masks_of_all_objects_are_checked_in_every_view():
    faint, empty = masks() * 0.3, masks()
    empty[1] = 0
    for bad, message in ((faint, "covers no latent pixel by half"), (empty, "an empty mask for 'tqz' in photo 1")):
        view = View(latents=torch.zeros(4, 8, 8), mask=torch.ones(1, 8, 8), object_masks=bad)
        for example in (replace(scene(), object_masks=bad), replace(scene(), more_views=(view,))):
            with pytest.raises(InputError, match=message):
                ObjectSpecificLoss().check(TrainingData(examples=(example,)))


def test_a_subset_of_nothing_is_refused():
    with pytest.raises(InputError, match="objects_per_step: got 0"):
        ObjectSpecificLoss(objects_per_step=0)

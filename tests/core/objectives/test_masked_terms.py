"""Masks and objective-specific terms, on plain tensors."""

from dataclasses import replace

import pytest
import torch
from tiny_unet import outcome, photos, schedule, training_data

from comfyui_personalize.core.data.examples import Masks, TrainingData, generator_for
from comfyui_personalize.core.data.noise import NoiseSource
from comfyui_personalize.core.data.order import draw_subject_rows
from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.objectives import MaskedLoss, MaskedPrior, ObjectSpecificLoss, PriorPreservation
from comfyui_personalize.core.objectives.masked import mask_to_latent

SOURCE = NoiseSource(schedule())
HALF = torch.zeros(1, 8, 8)
HALF[..., :4] = 1


def rows(mask, batch=2):
    return draw_subject_rows(training_data(photos(mask=mask)), SOURCE, 0, 0, batch)


def test_a_mask_becomes_area_averages_of_latent_size():
    mask = torch.zeros(16, 16)
    mask[:4, :8] = 1
    latent = mask_to_latent(mask, 2, 2)
    assert latent.shape == (1, 2, 2)
    assert torch.equal(latent, torch.tensor([[[0.5, 0.0], [0.0, 0.0]]]))


def test_dilation_grows_a_mask_by_so_many_pixels():
    mask = torch.zeros(16, 16)
    mask[8, 8] = 1
    assert mask_to_latent(mask, 16, 16, dilation=2).sum() == 25
    assert torch.equal(mask_to_latent(mask, 16, 16), mask[None])


def test_masks_of_other_shapes_keep_their_mean():
    mask = torch.rand(24, 40, generator=generator_for(0, "mask", 0))
    torch.testing.assert_close(mask_to_latent(mask, 3, 5).mean(), mask.mean())


def test_every_objective_reads_the_mask_that_was_grown_by_its_own_pixels():
    data = training_data(tuple(replace(one, grown={4: Masks(torch.ones(1, 8, 8))}) for one in photos(mask=HALF)))
    subject = draw_subject_rows(data, SOURCE, 0, 0, 2)
    assert torch.equal(MaskedLoss(dilation=4).pixel_weight(subject), torch.ones(2, 1, 8, 8))
    assert torch.equal(MaskedLoss(normalise_floor=1).pixel_weight(subject), HALF.expand(2, 1, 8, 8))
    for dilation, mask in ((0, HALF), (4, torch.ones(1, 8, 8))):
        cut = ObjectSpecificLoss(dilation=dilation).extra_rows(subject, data, SOURCE, generator_for(0, "", 0))
        assert torch.equal(cut.masks, mask.expand(2, 1, 8, 8))
        kept = MaskedPrior(dilation=dilation).target(torch.ones(2, 4, 8, 8), torch.zeros(2, 4, 8, 8), subject)
        assert torch.equal(kept, mask.expand(2, 4, 8, 8))


@pytest.mark.parametrize("objective", [MaskedLoss(dilation=4), ObjectSpecificLoss(dilation=4), MaskedPrior(dilation=4)],
                         ids=lambda objective: objective.kind)
def test_data_without_the_grown_masks_is_refused(objective):
    assert objective.mask_dilation == 4
    with pytest.raises(InputError, match="masks: got none grown by 4 pixels for photo 1"):
        objective.check(training_data(photos(mask=HALF)))


def test_a_full_mask_weighs_every_pixel_one():
    assert torch.equal(MaskedLoss().pixel_weight(rows(torch.ones(1, 8, 8))), torch.ones(2, 1, 8, 8))


def test_background_weight_one_turns_the_mask_off():
    assert torch.equal(MaskedLoss(background_weight=1).pixel_weight(rows(HALF)), torch.ones(2, 1, 8, 8))


def test_weights_are_divided_by_their_mean():
    weight = MaskedLoss(background_weight=0.5).pixel_weight(rows(HALF))
    torch.testing.assert_close(weight[..., :4], torch.full((2, 1, 8, 4), 1 / 0.75))
    torch.testing.assert_close(weight[..., 4:], torch.full((2, 1, 8, 4), 0.5 / 0.75))


def test_a_tiny_mask_is_divided_by_the_floor():
    mask = torch.zeros(1, 8, 8)
    mask[0, 0, 0] = 1
    weight = MaskedLoss(normalise_floor=0.25).pixel_weight(rows(mask))
    assert weight.max() == 4


def test_floor_one_does_not_normalise():
    assert torch.equal(MaskedLoss(normalise_floor=1).pixel_weight(rows(HALF)), HALF.expand(2, 1, 8, 8))


def test_object_rows_are_masked_latents_at_the_subjects_noise_under_the_object_caption():
    subject, data = rows(HALF * 0.7), training_data(photos(mask=HALF * 0.7))
    objects = ObjectSpecificLoss().extra_rows(subject, data, SOURCE, generator_for(0, "", 0))
    assert torch.equal(objects.latents, subject.latents * HALF) and torch.equal(objects.masks[0], HALF)
    assert torch.equal(objects.noise, subject.noise) and torch.equal(objects.index, subject.index)
    assert objects.prompts == ("a sks dog", "a sks dog")


def test_the_object_term_is_the_error_inside_the_mask():
    subject = rows(HALF)
    data = training_data(photos(mask=HALF))
    objects = ObjectSpecificLoss().extra_rows(subject, data, SOURCE, generator_for(0, "", 0))
    error = torch.ones(2, 4, 8, 8)
    assert ObjectSpecificLoss(weight=3).term(outcome(error, objects)) == 1.5
    error[..., 4:] = 100
    assert ObjectSpecificLoss(weight=3).term(outcome(error, objects)) == 1.5


def test_prior_rows_are_of_each_subjects_own_noun_with_their_own_noise():
    data = training_data((*photos(2, "dog"), *photos(2, "cat")))
    subject = draw_subject_rows(data, SOURCE, 0, 0, 4)
    prior = PriorPreservation().extra_rows(subject, data, SOURCE, generator_for(0, "prior", 0))
    nouns = [data.examples[number].class_noun for number in subject.examples]
    assert prior.prompts == tuple(f"a {noun}" for noun in nouns)
    for noun, image, latents in zip(nouns, subject.class_images, prior.latents, strict=True):
        assert torch.equal(latents, data.class_latents[noun][image])
    assert not torch.equal(prior.noise, subject.noise) and not torch.equal(prior.index, subject.index)
    assert PriorPreservation(weight=0.5).term(outcome(torch.full((4, 4, 8, 8), 3.0), prior)) == 1.5


def with_mask(mask):
    return TrainingData(examples=(replace(photos(1)[0], mask=mask),))


@pytest.mark.parametrize(
    "objective", [MaskedLoss(), ObjectSpecificLoss()], ids=lambda objective: objective.kind
)
@pytest.mark.parametrize(("mask", "message"), [
    (None, "no mask for photo 1"), (torch.ones(1, 4, 4), r"a mask of \(4, 4\)"),
    (torch.full((1, 8, 8), 255.0), "values 255 to 255"), (torch.zeros(1, 8, 8), "an empty mask for photo 1"),
])
def test_masks_that_cannot_be_used_are_refused(objective, mask, message):
    with pytest.raises(InputError, match=message):
        objective.check(with_mask(mask))


def test_a_mask_that_covers_no_latent_pixel_is_refused_by_the_object_term():
    MaskedLoss().check(with_mask(HALF * 0.4))
    with pytest.raises(InputError, match="covers no latent pixel by half"):
        ObjectSpecificLoss().check(with_mask(HALF * 0.4))


def test_a_noun_without_class_images_is_refused():
    data = TrainingData(examples=(*photos(1, "dog"), *photos(1, "cat")), class_prompts={"dog": "a dog"},
                        class_latents={"dog": torch.zeros(1, 4, 8, 8)})
    with pytest.raises(InputError, match="no class images of 'cat'.*Sample class images of 'cat'"):
        PriorPreservation().check(data)

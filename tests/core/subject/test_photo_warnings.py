"""Photos, masks and sizes that will probably disappoint are named, and ordinary ones are not."""

from __future__ import annotations

import pytest
import torch

from comfyui_personalize.core.data.options import DataOptions
from comfyui_personalize.core.subject.photo_warnings import (
    is_one_colour,
    is_white,
    lost_to_crop,
    marks_the_background,
    warnings_about_batch,
    warnings_about_photos,
    warnings_about_resolution,
)
from comfyui_personalize.core.subject.subject import Photo, Subject


def ellipse(height, width, down, across, tall, wide):
    """White within an ellipse; all in fractions of the sides."""
    rows = (torch.linspace(0, 1, height)[:, None] - down) / tall
    columns = (torch.linspace(0, 1, width)[None] - across) / wide
    return (rows.square() + columns.square() <= 1).float()


SUBJECTS = {
    "in the middle": ellipse(64, 64, 0.5, 0.5, 0.3, 0.3), "small": ellipse(64, 64, 0.5, 0.5, 0.2, 0.25),
    "large": ellipse(64, 64, 0.5, 0.5, 0.52, 0.52), "wide": ellipse(48, 96, 0.5, 0.5, 0.25, 0.5),
    "a portrait": torch.maximum(ellipse(96, 64, 0.35, 0.5, 0.25, 0.25), ellipse(96, 64, 1.0, 0.5, 0.4, 0.5)),
    "to the left": ellipse(64, 64, 0.55, 0.35, 0.3, 0.3),
}
"""Masks like those that people draw on photos of one subject."""


def photo(height=32, width=32, **changes):
    pixels = torch.rand(height, width, 3, generator=torch.Generator().manual_seed(1))
    return Photo(**{"pixels": pixels} | changes)


def said(*photos, **changes):
    return warnings_about_photos(Subject(identifier="sks", class_noun="dog", photos=photos, **changes))


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_subjects_mask_is_no_background_and_its_inverse_is(name):
    assert not marks_the_background(SUBJECTS[name])
    assert marks_the_background(1 - SUBJECTS[name])


@pytest.mark.parametrize("mask", [
    torch.ones(64, 64), ellipse(64, 64, 0.5, 0.5, 0.9, 0.9), ellipse(64, 64, 0.1, 0.1, 0.2, 0.2),
    1 - ellipse(64, 64, 0.5, 0.5, 0.1, 0.1), torch.ones(8, 8), ellipse(64, 64, 0.5, 0.0, 0.6, 0.7)])
def test_a_subject_that_fills_the_photo_or_stands_in_a_corner_is_no_background(mask):
    assert not marks_the_background(mask)


def test_a_soft_mask_of_the_background_is_found():
    assert marks_the_background(0.9 - 0.8 * SUBJECTS["in the middle"])


def test_one_colour_is_told_from_a_faint_picture():
    assert is_one_colour(torch.full((16, 16, 3), 0.4)) and is_one_colour(torch.tensor([0.9, 0.1, 0.5]).expand(8, 8, 3))
    assert is_one_colour(torch.full((16, 16, 3), 0.4) + torch.rand(16, 16, 3) / 100)
    assert not is_one_colour(torch.full((16, 16, 3), 0.4) + torch.rand(16, 16, 3) / 10)


def test_one_pixel_between_those_that_are_looked_at_first_counts():
    picture, mask = torch.full((1024, 1024, 3), 0.4), torch.ones(1024, 1024)
    assert is_one_colour(picture) and is_white(mask)
    picture[501, 501], mask[501, 501] = 1, 0
    assert not is_one_colour(picture) and not is_white(mask)


@pytest.mark.parametrize(
    ("size", "shape", "lost"),
    [((64, 64), "square", 0), ((90, 160), "square", 7 / 16), ((100, 400), "square", 0.75), ((400, 100), "square", 0.75),
     ((100, 160), "buckets", 0), ((100, 400), "buckets", 0.5), ((100, 1000), "buckets", 0.8)])
def test_what_a_crop_leaves_out_is_a_fraction_of_the_area(size, shape, lost):
    assert lost_to_crop(*size, DataOptions(shape=shape)) == pytest.approx(lost)


def test_ordinary_photos_and_masks_get_no_warning():
    photos = [photo(*mask.shape, mask=mask) for mask in SUBJECTS.values() if mask.shape[0] > 48]
    assert said(*photos, photo(90, 160), photo(64, 48)) == []


def test_photos_that_cannot_teach_much_are_named_by_number():
    flat = Photo(pixels=torch.full((32, 32, 3), 0.5))
    assert said(photo(), flat, flat) == ["nothing can be learned from photos 2, 3: all of one colour"]
    (cropped,) = said(photo(), photo(32, 128))
    assert cropped == ("the crop leaves less than half of photo 2: cut out the part that matters yourself, or choose "
                       "buckets in the data options")
    (bucketed,) = said(photo(32, 160), data=DataOptions(shape="buckets"))
    assert bucketed == "the crop leaves less than half of photo 1: cut out the part that matters yourself"


def test_masks_of_the_background_and_of_everything_are_named():
    mask = SUBJECTS["in the middle"]
    (background,) = said(photo(64, 64, mask=mask), photo(64, 64, mask=1 - mask))
    assert "probably the background, in photo 2: white is the subject" in background and "Invert Mask" in background
    (white,) = said(photo(64, 64, mask=torch.ones(64, 64)))
    assert white == "the mask is white all over in photo 1: it leaves nothing out"


def test_the_masks_of_objects_count_one_by_one():
    left, right = ellipse(64, 64, 0.5, 0.25, 0.2, 0.2), ellipse(64, 64, 0.5, 0.75, 0.2, 0.2)
    assert said(photo(64, 64, mask=torch.maximum(left, right), object_masks=(left, right))) == []
    inverse = (1 - ellipse(64, 64, 0.5, 0.4, 0.3, 0.3), right)
    (found,) = said(photo(64, 64, mask=torch.maximum(*inverse), object_masks=inverse))
    assert "probably the background" in found


def test_a_batch_of_more_than_all_photos_is_named():
    assert warnings_about_batch(4, 4) == []
    (found,) = warnings_about_batch(64, 4)
    assert found.startswith("a batch of 64 holds some of the 4 photos more than once") and "use 4 or less" in found


@pytest.mark.parametrize("resolution", [616, 1024, 1600])
def test_a_resolution_near_what_was_trained_is_not_named(resolution):
    assert warnings_about_resolution(resolution, (1024, 1024), "SDXL") == []
    assert warnings_about_resolution(resolution, None, "Other") == []


@pytest.mark.parametrize(("resolution", "trained", "known"), [
    (96, (1024, 1024), "1024"), (608, (1024, 1024), "1024"), (1664, (1024, 1024), "1024"),
    (256, (512, 1024), "512 to 1024")])
def test_a_resolution_far_from_what_was_trained_is_named(resolution, trained, known):
    (found,) = warnings_about_resolution(resolution, trained, "SDXL")
    assert found.startswith(f"a resolution of {resolution} is far from the {known} pixels that SDXL was trained at")

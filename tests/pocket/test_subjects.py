"""Photos of subjects, with their truth, as tools, benches and tests ask for them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from comfyui_personalize.pocket import subjects
from comfyui_personalize.tools.pictures.subjects import PLACES
from comfyui_personalize.tools.render_photos import FOLDER, example_photos


def test_what_is_reported_on_is_never_what_was_chosen_on_or_shown_as_an_example():
    chosen = {*subjects.HELD_IN, *(number for number, _ in subjects.EXAMPLES)}
    assert len(subjects.HELD_OUT) == 8 and not chosen & set(subjects.HELD_OUT)


def test_photos_show_the_subject_in_different_places_under_exact_masks():
    photos = subjects.subject_photos(3, 4, size=64)
    assert {photo.noun for photo in photos} == {subjects.class_noun(3)}
    assert len({photo.context for photo in photos}) == 4
    for photo in photos:
        assert photo.pixels.shape == (64, 64, 3) and photo.cover.shape == (64, 64)
        assert 0.02 < (photo.cover == 255).mean() < 0.6 and photo.cover.min() == 0
    assert subjects.subject_photos(3, 1, "house")[0].noun == "house"


def test_a_photo_can_be_taken_in_any_place_and_a_hat_adds_to_the_picture_and_to_its_mask_alone():
    assert [subjects.photo_in(8, place).context for place in subjects.CONTEXTS] == list(subjects.CONTEXTS)
    bare, hatted = subjects.photo_in(8), subjects.photo_in(8, wears_hat=True)
    differs = (bare.pixels != hatted.pixels).any(-1)
    assert (hatted.cover > bare.cover).any() and (hatted.cover >= bare.cover).all()
    assert differs.any() and (hatted.cover[differs] > 0).all()


def test_the_mask_is_transparent_where_the_subject_is_and_its_colours_stay():
    photo = subjects.photo_in(0)
    painted = np.asarray(photo.with_mask())
    assert np.array_equal(painted[..., :3], photo.pixels) and np.array_equal(painted[..., 3], 255 - photo.cover)


def test_of_two_subjects_side_by_side_each_has_a_mask_and_no_pixel_is_both():
    picture, (left, right) = subjects.side_by_side(((3, "dog"), (4, "backpack")), 64)
    assert picture.shape == (64, 128, 3) and not ((left > 0) & (right > 0)).any()
    columns = [np.flatnonzero((cover == 255).any(0)).mean() for cover in (left, right)]
    assert columns[0] < 64 < columns[1]


def test_held_out_pictures_stand_in_places_that_have_a_phrase():
    pictures = subjects.held_out_pictures(5)
    assert len(pictures) == 5 and all(subjects.PHRASES[picture.context] for picture in pictures)


@pytest.mark.parametrize("number", [1, 4])
def test_the_example_photos_are_those_of_the_first_example(number):
    photo = example_photos()[number - 1]
    assert photo.noun == subjects.EXAMPLES[0][1] and photo.context not in PLACES
    assert np.array_equal(np.asarray(Image.open(FOLDER / f"personalize_{photo.noun}_{number}.png")), photo.pixels)

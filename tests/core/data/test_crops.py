"""Crops lose as little as they can, stay within the photo, and are always the same for the same photo."""

import math

import pytest

from comfyui_personalize.core.data.crops import (
    MAX_ASPECT,
    bucket_sizes,
    centred_crop,
    find_bucket,
    plan_crops,
    reference_crop,
)
from comfyui_personalize.core.data.options import DataOptions
from comfyui_personalize.core.errors import InputError

SIZES = [(512, 512), (480, 640), (640, 480), (1000, 667), (300, 1200), (97, 101), (8, 8), (1500, 2000)]


def test_the_default_is_the_largest_centred_square():
    (crop,) = plan_crops(60, 100, 32, DataOptions(), "")
    assert (crop.top, crop.left, crop.height, crop.width, crop.size) == (0, 20, 60, 60, (32, 32))
    (crop,) = plan_crops(100, 61, 32, DataOptions(), "")
    assert (crop.top, crop.left, crop.height, crop.width) == (19, 0, 61, 61)


@pytest.mark.parametrize("resolution", [64, 96, 200, 512, 768, 1024])
def test_buckets_have_at_most_the_pixels_of_the_square_and_a_small_step(resolution):
    sizes = bucket_sizes(resolution)
    assert (resolution, resolution) in sizes and len(set(sizes)) == len(sizes)
    for height, width in sizes:
        assert height % 8 == width % 8 == 0
        assert 0.93 * resolution**2 <= height * width <= resolution**2
        assert 1 / MAX_ASPECT <= height / width <= MAX_ASPECT
        assert (width, height) in sizes


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("resolution", [96, 512])
def test_a_bucket_loses_little_of_a_photo(height, width, resolution):
    (crop,) = plan_crops(height, width, resolution, DataOptions(shape="buckets"), "")
    kept = crop.height * crop.width / (height * width)
    if max(height, width) <= MAX_ASPECT * min(height, width):
        assert kept > 0.9
    assert math.isclose(crop.height / crop.width, crop.size[0] / crop.size[1], rel_tol=0.13 if height < 10 else 0.02)


def test_square_and_upright_photos_find_their_buckets():
    assert find_bucket(700, 700, 512) == (512, 512)
    assert find_bucket(600, 800, 512) == (448, 576)
    assert find_bucket(800, 600, 512) == (576, 448)
    assert find_bucket(3, 300, 96)[1] <= 2 * find_bucket(3, 300, 96)[0]


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("shape", ["square", "buckets"])
def test_jittered_crops_stay_within_the_photo_and_near_the_centre(height, width, shape):
    centred, *others = plan_crops(height, width, 512, DataOptions(shape=shape, views=12, jitter=0.2), "photo")
    assert centred == centred_crop(height, width, centred.size) and len(others) == 11
    for crop in others:
        assert crop.top >= 0 and crop.left >= 0
        assert crop.top + crop.height <= height and crop.left + crop.width <= width
        assert crop.height >= min(0.79 * centred.height, 8) and crop.size == centred.size
        middle = crop.left + crop.width / 2
        assert abs(middle - width / 2) <= 0.2 * centred.width + 1


def test_jitter_is_a_function_of_the_photo_and_the_views_number():
    few, many = (plan_crops(600, 800, 512, DataOptions(views=views), "photo") for views in (3, 9))
    assert few == many[:3] and len(set(many)) == 9
    assert plan_crops(600, 800, 512, DataOptions(views=3), "another") != few


def test_mirrored_views_double_the_others():
    crops = plan_crops(600, 800, 512, DataOptions(views=3, flip=True), "photo")
    assert [crop.mirrored for crop in crops] == [False] * 3 + [True] * 3
    assert [crop.left for crop in crops[:3]] == [crop.left for crop in crops[3:]]


@pytest.mark.parametrize(("options", "message"), [
    ({"shape": "round"}, "shape: got 'round', expected one of square, buckets"), ({"repeats": 0}, "repeats: got 0"),
    ({"views": 65}, "views: got 65"), ({"jitter": 0.6}, "jitter: got 0.6"),
    ({"caption_dropout": 1.0}, "caption_dropout: got 1.0"),
])
def test_options_that_cannot_work_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        DataOptions(**options)


def test_options_survive_metadata():
    options = DataOptions(shape="buckets", repeats=3, flip=True, views=4, jitter=0.2, caption_dropout=0.1)
    assert DataOptions.from_dict(vars(options)) == options


def test_a_reference_of_the_photos_own_size_is_cut_as_each_view_of_it():
    crops = plan_crops(60, 100, 32, DataOptions(views=3, flip=True), "k")
    assert [reference_crop(60, 100, (60, 100), crop, 32, 8) for crop in crops] == list(crops)


@pytest.mark.parametrize(("height", "width", "size"), [(50, 50, (64, 64)), (30, 120, (32, 128)), (8, 80, (16, 208))])
def test_another_reference_stays_whole_at_about_the_pixels_of_the_square(height, width, size):
    *_, mirrored = plan_crops(60, 100, 64, DataOptions(flip=True), "")
    crop = reference_crop(height, width, (60, 100), mirrored, 64, 16)
    assert crop.size == size and crop.mirrored
    assert crop.height * crop.width >= 0.7 * height * width

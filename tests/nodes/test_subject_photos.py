"""SubjectPhotos: pictures as stock nodes hand them over, and everything that is refused."""

from __future__ import annotations

import nodes as stock
import numpy
import pytest
import torch
from comfy_extras.nodes_dataset import LoadImageDataSetFromFolderNode
from PIL import Image
from run_node import run_node

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.nodes.bridge.photos.photos import MAX_SIDE
from comfyui_personalize.nodes.subject_photos import SubjectPhotos


def picture(height=32, width=24, channels=3, batch=1):
    return torch.rand(batch, height, width, channels, generator=torch.Generator().manual_seed(height + width))


def white(height=32, width=24, batch=1):
    return torch.ones(batch, height, width)


def load(*images, masks=(), subject=None, references=(), **words):
    """The node as the executor calls it: every input is a list, sockets of one kind come as a dict."""
    words = {"identifier": "sks", "class_noun": "dog", "caption_template": "a {V} {noun}"} | words
    return run_node(
        SubjectPhotos,
        images={f"image{i}": image if isinstance(image, list) else [image] for i, image in enumerate(images)},
        masks={f"mask{i}": [mask] for i, mask in enumerate(masks)},
        subject=None if subject is None else [subject],
        references={f"reference{i}": [one] for i, one in enumerate(references)} or None,
        **{name: [value] for name, value in words.items()})[0]


def test_one_photo_makes_one_subject():
    (subject,) = load(picture())
    assert subject.caption == "a sks dog" and len(subject.photos) == 1
    assert torch.equal(subject.photos[0].pixels, picture()[0]) and subject.photos[0].mask is None


def test_photos_of_several_sockets_batches_and_lists_keep_order_and_size():
    (subject,) = load(picture(16, 20), picture(24, 24, batch=2), [picture(40, 30), picture(30, 40)])
    assert [tuple(photo.pixels.shape[:2]) for photo in subject.photos] == [
        (16, 20), (24, 24), (24, 24), (40, 30), (30, 40)]


def test_captions_come_as_a_list_of_texts_of_any_node_or_as_lines_of_one():
    words = {"identifier": ["zkz"], "class_noun": ["dog"], "caption_template": ["a {V} {noun}"]}
    for captions in (["{V} asleep\non a sofa.", "", "a zkz {noun} in snow"],
                     ["{V} asleep on a sofa.\n\na zkz {noun} in snow"]):
        (subject,), *_ = run_node(SubjectPhotos, images={"image0": [picture(16), picture(20), picture(24)]},
                                  captions=captions, **words)
        assert [subject.caption_of(photo) for photo in subject.photos] == [
            "zkz asleep on a sofa.", "a zkz dog", "a zkz dog in snow"]
    with pytest.raises(InputError, match="captions: got 2 captions for 3 photos, expected one caption per photo"):
        run_node(SubjectPhotos, images={"image0": [picture(batch=3)]}, captions=["{V}", "{V} 2"], **words)


def test_references_of_any_size_go_to_their_photos_in_order_and_another_number_is_refused():
    (subject,) = load(picture(), picture(), references=[picture(20, 40), picture(16, 16)])
    assert [tuple(one.pixels.shape[:2]) for photo in subject.photos for one in photo.references] == [(20, 40), (16, 16)]
    assert load(picture())[0].photos[0].references == ()
    with pytest.raises(InputError, match="3 reference images for 2 photos"):
        load(picture(), picture(), references=[picture(batch=3)])


def test_subjects_chain_in_order():
    first = load(picture(), identifier="sks")
    both = load(picture(), subject=first, identifier="wrs", class_noun="toy car")
    assert [subject.caption for subject in both] == ["a sks dog", "a wrs toy car"] and both[0] is first[0]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_grey_rgb_and_rgba_become_three_channels(channels):
    assert load(picture(channels=channels))[0].photos[0].pixels.shape == (32, 24, 3)


def test_hidden_colours_under_transparency_are_not_learned_and_make_no_mask():
    rgba = picture(channels=4)
    rgba[..., 3] = 0
    (photo,) = load(rgba)[0].photos
    assert torch.equal(photo.pixels, torch.ones(32, 24, 3)) and photo.mask is None


def test_a_very_large_photo_and_its_mask_are_scaled_together():
    (photo,) = load(torch.rand(1, 3000, 4500, 3), masks=[white(3000, 4500)])[0].photos
    assert photo.pixels.shape == (round(3000 * MAX_SIDE / 4500), MAX_SIDE, 3)
    assert photo.mask.shape == photo.pixels.shape[:2] and bool((photo.mask == 1).all())


@pytest.mark.parametrize("noun", ["toy car", "perro pequeño", "玩具"])
def test_multi_word_and_unicode_nouns_are_kept(noun):
    assert load(picture(), class_noun=f" {noun} ")[0].caption == f"a sks {noun}"


def test_masks_go_with_their_photos():
    left, right = white(), white()
    left[..., 12:], right[..., :12] = 0, 0
    (subject,) = load(picture(), picture(), masks=[left, right])
    assert torch.equal(subject.photos[0].mask, left[0]) and torch.equal(subject.photos[1].mask, right[0])


@pytest.mark.parametrize(
    ("images", "masks", "message"),
    [
        ([], [], "images: got no photo, expected 1 or more photos. Give one or more photos"),
        ([picture(1, 1)], [], "images: got a photo of 1 x 1 pixels, expected at least 8 x 8 pixels"),
        ([picture() * float("nan")], [], "images: got a photo with NaN or infinite pixels"),
        ([picture() * 255], [], "images: got pixel values up to 25"),
        ([picture(channels=2)], [], "images: got 2 channels, expected grey, RGB or RGBA"),
        ([torch.rand(1, 2, 3, 4, 5)], [], r"images: got a tensor of shape \(1, 2, 3, 4, 5\)"),
        ([picture(), picture()], [white()], "masks: got 1 masks for 2 photos, expected one mask per photo"),
        ([picture()], [white(), white()], "masks: got 2 masks for 1 photos, expected one mask per photo"),
        ([picture()], [white(24, 32)], "masks: got a mask of 32 x 24 for a photo of 24 x 32 pixels"),
        ([picture()], [white() * 0], "masks: got an empty mask, expected some white pixels on the subject"),
        ([picture()], [white() * float("nan")], "masks: got a mask with NaN"),
        ([picture()], [torch.zeros(1, 64, 64)], "Load Image gives it for a picture without transparency"),
    ],
)
def test_unusable_pictures_and_masks_are_refused_with_what_to_do(images, masks, message):
    with pytest.raises(InputError, match=message):
        load(*images, masks=masks)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"identifier": "  "}, "identifier: got an empty text"),
        ({"caption_template": "a photo"}, "caption_template: got 'a photo', expected a text with {V}"),
    ],
)
def test_words_that_cannot_work_are_refused(words, message):
    with pytest.raises(InputError, match=message):
        load(picture(), **words)


def test_typed_words_are_refused_when_the_graph_is_queued_and_linked_ones_are_not():
    validate = SubjectPhotos.validate_inputs
    assert validate(identifier=["sks"], caption_template=["a {V} {noun}"]) is True
    assert validate(identifier=(None,), caption_template=(None,)) is True
    assert "identifier: got an empty text" in validate(identifier=[" "], caption_template=(None,))
    assert "caption_template: got 'a dog'" in validate(identifier=["sks"], caption_template=["a dog"])


@pytest.mark.parametrize(
    ("words", "warning"),
    [
        ({"identifier": "dog"}, "identifier 'dog' is an English word"),
        ({"class_noun": ""}, "the class noun is empty"),
    ],
)
def test_words_that_work_badly_are_warned_about(words, warning, caplog):
    (subject,) = load(picture(), **words)
    assert warning in caplog.text and subject.photos


@pytest.mark.parametrize("identifier", ["sks", "scn", "uchcci", "xxy5syt00"])
def test_a_word_that_means_nothing_is_not_warned_about_however_an_encoder_reads_it(identifier, caplog):
    """No encoder is connected: what is one token in Qwen's vocabulary may be common pieces in CLIP's."""
    load(picture(), identifier=identifier)
    assert caplog.text == ""


def test_stock_load_image_gives_a_photo_and_its_empty_mask_is_explained(base_directory):
    image = Image.fromarray(numpy.full((48, 40, 3), 128, numpy.uint8))
    image.save(base_directory / "input" / "plain.png")
    pixels, mask = stock.LoadImage().load_image("plain.png")
    assert load(pixels)[0].photos[0].pixels.shape == (48, 40, 3)
    with pytest.raises(InputError, match="an empty mask of 64 x 64 pixels .Load Image gives it"):
        load(pixels, masks=[mask])


def test_a_mask_painted_in_load_image_marks_the_subject(base_directory):
    rgba = numpy.full((48, 40, 4), 200, numpy.uint8)
    rgba[..., 3] = 255
    rgba[:24, :, 3] = 0  # the mask editor makes what is painted transparent
    Image.fromarray(rgba).save(base_directory / "input" / "painted.png")
    pixels, mask = stock.LoadImage().load_image("painted.png")
    (photo,) = load(pixels, masks=[mask])[0].photos
    assert bool((photo.mask[:24] == 1).all()) and not bool(photo.mask[24:].any())


def test_a_folder_of_photos_of_mixed_sizes_is_one_subject(base_directory):
    folder = base_directory / "input" / "my_dog"
    folder.mkdir()
    for side in (32, 48, 64):
        Image.new("L", (side, side + 8), side).save(folder / f"{side}.png")
    photos = LoadImageDataSetFromFolderNode.execute("my_dog").args[0]
    (subject,) = load(photos)
    assert sorted(photo.pixels.shape[0] for photo in subject.photos) == [40, 56, 72]


def test_schema_grows_by_one_socket_per_photo_and_shows_few_widgets():
    inputs = SubjectPhotos.GET_SCHEMA().inputs
    assert [entry.id for entry in inputs] == [
        "images", "masks", "identifier", "class_noun", "caption_template", "captions", "data", "subject",
        "references"]
    assert all(entry.tooltip for entry in inputs)

"""PhotosFromFolder: real files in ComfyUI's input folder to subjects, and everything that is refused."""

from __future__ import annotations

import itertools
import math

import nodes as stock
import numpy
import pytest
import torch
from comfy_api.v0_0_2 import io
from PIL import Image
from run_node import run_node

from comfyui_personalize.core.data.options import DataOptions
from comfyui_personalize.core.errors import InputError
from comfyui_personalize.nodes.bridge.photos.folders import input_folders, photo_sheet
from comfyui_personalize.nodes.bridge.photos.latents import data_hash
from comfyui_personalize.nodes.photos_from_folder import PhotosFromFolder
from comfyui_personalize.nodes.subject_photos import SubjectPhotos

COUNTER = itertools.count()
WORDS = {"identifier": "sks", "class_noun": "dog", "caption_template": "a {V} {noun}"}


def ramp(height=32, width=24, seed=0):
    values = numpy.random.default_rng(seed).integers(0, 255, (height, width, 3), numpy.uint8)
    return Image.fromarray(values)


def white_half(height=32, width=24):
    mask = Image.new("L", (width, height), 0)
    mask.paste(255, (0, 0, width // 2, height))
    return mask


@pytest.fixture
def folder(base_directory):
    """A new folder in ComfyUI's input folder."""
    path = base_directory / "input" / f"photos{next(COUNTER)}"
    path.mkdir()
    return path


def inputs(folder, captions=None, **changes):
    """What the executor gives the node: a list for every input."""
    return {"folder": [folder], "captions": captions, **{name: [value] for name, value in (WORDS | changes).items()}}


def load(folder, captions=None, **changes):
    """SUBJECT, IMAGE, MASK, captions."""
    return run_node(PhotosFromFolder, **inputs(getattr(folder, "name", folder), captions, **changes))


def test_photos_captions_and_masks_make_one_subject(folder):
    for number in (1, 2, 10):
        ramp(seed=number).save(folder / f"img{number}.png")
    white_half().save(folder / "img2.mask.png")
    (folder / "img10.txt").write_text("{V} on a beach")
    (subject,), images, masks, captions = load(folder)
    assert [subject.caption_of(photo) for photo in subject.photos] == ["a sks dog", "a sks dog", "sks on a beach"]
    assert captions == ["", "", "{V} on a beach"]
    assert [photo.mask is None for photo in subject.photos] == [True, False, True]
    assert torch.equal(subject.photos[2].pixels, torch.from_numpy(numpy.array(ramp(seed=10)) / numpy.float32(255)))
    assert all(torch.equal(image[0], photo.pixels) for image, photo in zip(images, subject.photos, strict=True))
    assert bool((masks[0] == 1).all()) and torch.equal(masks[1][0], subject.photos[1].mask)


def test_png_photos_are_to_the_same_bits_what_load_image_gives(folder):
    """So that a run of the one graph is found by the other. JPEG has another decoder there."""
    for number in (1, 2):
        ramp(40, 30, number).save(folder / f"{number}.png")
    from_folder = load(folder)[0]
    loaded = [stock.LoadImage().load_image(f"{folder.name}/{number}.png")[0] for number in (1, 2)]
    from_nodes = run_node(SubjectPhotos, images={"image0": loaded}, **{name: [word] for name, word in WORDS.items()})[0]
    assert data_hash(from_folder) == data_hash(from_nodes)


def test_the_lists_go_into_subject_photos(folder):
    for number in (1, 2):
        ramp(30 + number, 40, number).save(folder / f"{number}.png")
        white_half(30 + number, 40).save(folder / f"{number}-mask.png")
        (folder / f"{number}.txt").write_bytes(f"a {{V}} {{noun}} number {number}".encode("utf-16"))
    subjects, images, masks, captions = load(folder)
    again = run_node(SubjectPhotos, images={"image0": images}, masks={"mask0": masks}, captions=captions,
                     **{name: [word] for name, word in WORDS.items()})[0]
    assert data_hash(again) == data_hash(subjects)


def test_subfolders_are_subjects_under_the_words_of_their_names(folder):
    for name in ("10_zkz dog", "wrs", "3_tqz toy car"):
        (folder / name).mkdir()
        ramp().save(folder / name / "1.png")
    subjects = load(folder, data=DataOptions(flip=True, repeats=2))[0]
    assert [(subject.caption, subject.data.repeats) for subject in subjects] == [
        ("a tqz toy car", 3), ("a zkz dog", 10), ("a wrs dog", 2)]
    assert all(subject.data.flip for subject in subjects)


def test_a_subject_before_it_stays_in_the_chain(folder):
    ramp().save(folder / "1.png")
    first = load(folder)[0]
    both = load(folder, identifier="wrs", subject=first)[0]
    assert [subject.identifier for subject in both] == ["sks", "wrs"] and both[0] is first[0]


def cut_out(mode="RGBA"):
    image = Image.new("RGBA", (24, 32), (255, 0, 255, 0))
    image.paste((10, 200, 30, 255), (6, 8, 18, 24))
    return image.convert(mode)


def test_a_cut_out_is_shown_on_white_and_its_opacity_is_its_mask(folder):
    cut_out().save(folder / "cut.png")
    (photo,) = load(folder)[0][0].photos
    assert bool((photo.pixels[:8] == 1).all()) and torch.allclose(
        photo.pixels[16, 12], torch.tensor([10, 200, 30]) / 255)
    assert photo.mask.sum() == 12 * 16 and bool((photo.mask[8:24, 6:18] == 1).all())


def test_a_mask_file_counts_before_a_cut_outs_own(folder):
    cut_out().save(folder / "cut.png")
    white_half().save(folder / "cut.mask.png")
    (photo,) = load(folder)[0][0].photos
    assert photo.mask.sum() == 12 * 32 and bool((photo.pixels[:8] == 1).all())


def test_a_faint_transparency_makes_no_mask(folder):
    image = ramp().convert("RGBA")
    image.putalpha(254)
    image.save(folder / "faint.png")
    assert load(folder)[0][0].photos[0].mask is None


def test_a_phone_photo_and_its_mask_stand_upright(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    ramp(48, 64).transpose(Image.Transpose.ROTATE_90).save(folder / "phone.png", exif=exif)
    white_half(48, 64).transpose(Image.Transpose.ROTATE_90).save(folder / "phone.mask.png", exif=exif)
    (photo,) = load(folder)[0][0].photos
    assert photo.pixels.shape == (48, 64, 3) and bool((photo.mask[:, :32] == 1).all()) and not photo.mask[:, 32:].any()


def test_captions_as_windows_saves_them_train_as_typed(folder):
    for number, encoding in enumerate(("utf-8-sig", "utf-16", "cp1252")):
        ramp().save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_bytes("a {V} dog, café\r\n".encode(encoding))
    (subject,) = load(folder)[0]
    assert {subject.caption_of(photo) for photo in subject.photos} == {"a sks dog, café"}


def test_what_is_left_out_and_words_that_work_badly_are_warned_about(folder, caplog):
    ramp().save(folder / "1.gif", save_all=True, append_images=[ramp(seed=2)])
    (folder / "2.txt").touch()
    load(folder, identifier="dog")
    assert "left out, captions of no picture: 2.txt" in caplog.text
    assert "1.gif: the first of 2 frames is used" in caplog.text
    assert "identifier 'dog' is an English word" in caplog.text


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "folder: got no picture in 'photos"),
        ({"a.jpg": b"no picture"}, "images: got a.jpg, which cannot be read"),
        ({"a.png": Image.new("L", (4, 4))}, "images: got a.png: a photo of 4 x 4 pixels, expected at least 8 x 8"),
        ({"a.png": ramp(), "a.txt": b"a dog"}, "captions: got a.txt: 'a dog' .*without 'sks'"),
        ({"a.png": ramp(), "a.mask.png": Image.new("L", (24, 32))}, "masks: got a.mask.png: an empty mask"),
        ({"a.png": ramp(), "a-mask.png": white_half(24, 32)}, "masks: got a-mask.png: a mask of 32 x 24 for a photo"),
        ({"a.png": Image.new("RGBA", (24, 32))}, "masks: got a.png: an empty mask"),
    ],
)
def test_files_that_cannot_be_used_are_refused_by_name(folder, files, message):
    for name, content in files.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            content.save(folder / name)
    with pytest.raises(InputError, match=message):
        load(folder)


def test_a_number_of_repeats_that_cannot_be_is_refused_with_its_folder(folder):
    (folder / "0_zkz dog").mkdir()
    ramp().save(folder / "0_zkz dog" / "1.png")
    with pytest.raises(InputError, match="repeats: got 0_zkz dog: 0, expected 1 to 1000"):
        load(folder)


@pytest.mark.parametrize("name", ["", ".", "..", "../output", "/etc", "nowhere", "a\0b", "x" * 5000, "C:\\photos", 5])
def test_nothing_outside_the_input_folder_is_read(folder, name):
    with pytest.raises(InputError, match="folder: got .*expected"):
        load(name)
    said = PhotosFromFolder.validate_inputs(folder=name, identifier="sks", caption_template="a {V}")
    assert "folder: got" in said


def test_a_list_of_captions_stands_in_place_of_the_files_and_an_empty_one_leaves_the_photo_its_own(folder):
    for name in ("10_zkz dog", "20_tqz cat"):
        (folder / name).mkdir()
        for number in (1, 2):
            ramp(seed=number).save(folder / name / f"{number}.png")
    (folder / "10_zkz dog" / "2.txt").write_text("{V} on a beach")
    (first, second), *_, captions = load(folder, ["a {V} {noun} on\n a sofa.", "", "{V}", "tqz asleep"])
    assert captions == ["a {V} {noun} on a sofa.", "{V} on a beach", "{V}", "tqz asleep"]
    assert [first.caption_of(photo) for photo in first.photos] == ["a zkz dog on a sofa.", "zkz on a beach"]
    assert [second.caption_of(photo) for photo in second.photos] == ["tqz", "tqz asleep"]
    assert load(folder, ["{V} 1\n{V} 2\n\n{V} 4"])[3] == ["{V} 1", "{V} 2", "", "{V} 4"]


def test_captions_of_another_number_or_without_the_identifier_are_refused(folder):
    for number in (1, 2):
        ramp(seed=number).save(folder / f"{number}.png")
    with pytest.raises(InputError, match="captions: got 3 captions for 2 photos, expected one caption per photo"):
        load(folder, ["{V} a", "{V} b", "{V} c"])
    with pytest.raises(InputError, match="caption.*a brown dog"):
        load(folder, ["{V} a", "a brown dog"])


def test_a_link_out_of_the_input_folder_is_not_followed(folder, tmp_path):
    ramp().save(tmp_path / "secret.png")
    (folder / "link").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(InputError, match="folder: got '.*/link', expected a subfolder of ComfyUI's input folder"):
        load(f"{folder.name}/link")
    with pytest.raises(InputError, match="folder: got secret.png, a link to another place"):
        load(folder)


def test_words_and_folders_are_refused_when_the_graph_is_queued_and_linked_ones_are_not(folder):
    validate = PhotosFromFolder.validate_inputs
    assert validate(folder=folder.name, identifier="sks", caption_template="a {V} {noun}") is True
    assert validate(folder=None, identifier=None, caption_template=None) is True
    assert "identifier: got an empty text" in validate(folder=None, identifier=" ", caption_template=None)


def test_a_changed_added_or_renamed_file_is_seen_and_a_touched_one_is_not(folder):
    def seen():
        return PhotosFromFolder.fingerprint_inputs(**inputs(folder.name))

    ramp().save(folder / "1.png")
    marks = [seen()]
    (folder / "1.png").touch()
    assert seen() == marks[0]
    ramp(seed=1).save(folder / "1.png")
    marks.append(seen())
    (folder / "1.txt").write_text("a {V}")
    marks.append(seen())
    white_half().save(folder / "1.mask.png")
    marks.append(seen())
    (folder / "1.mask.png").rename(folder / "1-mask.png")
    marks.append(seen())
    assert len(set(marks)) == 5
    assert math.isnan(PhotosFromFolder.fingerprint_inputs(folder=None))
    assert PhotosFromFolder.fingerprint_inputs(folder=folder.name) == seen()
    assert "expected a subfolder" in PhotosFromFolder.fingerprint_inputs(folder="nowhere")


def test_the_list_of_folders_leaves_out_masks_and_hidden_ones(folder):
    for name in ("10_zkz dog", "masks", ".cache", "__MACOSX"):
        (folder / name).mkdir()
    listed = [name for name in input_folders() if name.startswith(folder.name)]
    assert listed == [folder.name, f"{folder.name}/10_zkz dog"]
    (choice,) = [entry for entry in PhotosFromFolder.define_schema().inputs if isinstance(entry, io.Combo.Input)]
    assert folder.name in choice.options


def test_the_sheet_has_a_row_for_six_photos_and_dims_what_masks_leave_out(folder):
    for number in range(8):
        Image.new("RGB", (700, 1400), "white").save(folder / f"{number}.png")
    white_half(1400, 700).save(folder / "7.mask.png")
    sheet = photo_sheet(load(folder)[0])[0]
    rows, left = sheet.shape[0] // 2, 6
    top = rows + 22 + 20
    assert sheet.shape == (2 * (160 + 22 + 6) + 6, 6 * (160 + 6) + 6, 3)
    second = left + 160 + 6
    assert sheet[top, second + 20].mean() == 1 and sheet[top, second + 60].mean() == pytest.approx(0.3, abs=0.02)


def test_the_node_shows_what_it_read(folder):
    for number in range(8):
        ramp(seed=number).save(folder / f"{number}.png")
    clone = PhotosFromFolder.PREPARE_CLASS_CLONE({"hidden_inputs": {io.Hidden.unique_id: "7"}})
    shown = clone.EXECUTE_NORMALIZED(**inputs(folder.name)).ui
    assert len(shown["images"]) == 1

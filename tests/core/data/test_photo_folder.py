"""Which files of a folder are photos, and which caption and mask belong to each."""

from __future__ import annotations

import os

import pytest

from comfyui_personalize.core.data.photo_folder import find_subject_folders, natural_order, read_folder_name
from comfyui_personalize.core.errors import InputError


def fill(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def only(folder):
    (found,) = find_subject_folders(folder)
    return found


def pairs(folder):
    return {photo.picture.name: tuple(path.relative_to(folder).as_posix() if path else None
                                      for path in (photo.mask, photo.caption)) for photo in only(folder).photos}


def test_photos_come_in_natural_order(tmp_path):
    fill(tmp_path, "IMG_10.jpg", "img_9.JPG", "IMG_2.png", "a.webp")
    assert [photo.picture.name for photo in only(tmp_path).photos] == ["a.webp", "IMG_2.png", "img_9.JPG", "IMG_10.jpg"]
    assert natural_order("2") < natural_order("10") < natural_order("a2") < natural_order("a10")


@pytest.mark.parametrize("caption", ["dog.txt", "dog.caption", "dog.TXT"])
@pytest.mark.parametrize("mask", ["dog.mask.png", "dog-mask.png", "dog_mask.png", "dog-masklabel.png", "masks/dog.png",
                                  "mask/dog.jpg", "masks/dog.mask.png"])
def test_a_caption_and_a_mask_belong_to_the_photo_of_their_name(tmp_path, mask, caption):
    fill(tmp_path, "dog.jpg", "cat.jpg", mask, caption)
    assert pairs(tmp_path) == {"cat.jpg": (None, None), "dog.jpg": (mask, caption)}
    assert only(tmp_path).warnings == ()


def test_a_text_file_is_preferred_to_a_caption_file(tmp_path):
    fill(tmp_path, "dog.jpg", "dog.caption", "dog.txt")
    assert pairs(tmp_path) == {"dog.jpg": (None, "dog.txt")}


def test_accents_match_however_they_are_composed(tmp_path):
    fill(tmp_path, "ma\u0301s.jpg", "m\u00e1s.txt")
    assert list(pairs(tmp_path).values()) == [(None, "m\u00e1s.txt")]


def test_what_belongs_to_no_photo_is_named_and_what_systems_leave_is_not(tmp_path):
    fill(tmp_path, "dog.jpg", "cat.txt", "bird.mask.png", "masks/fish.png", "dog.mov", "Thumbs.db", ".DS_Store",
         "._dog.jpg", "__MACOSX/dog.jpg", "dog.json")
    assert only(tmp_path).warnings == (
        "left out, captions of no picture: cat.txt",
        "left out, masks of no picture (a photo is not to end in 'mask'): bird.mask.png, fish.png",
        "left out, videos: dog.mov")
    assert [photo.picture.name for photo in only(tmp_path).photos] == ["dog.jpg"]


def test_many_files_are_not_all_named(tmp_path):
    fill(tmp_path, "dog.jpg", *(f"{number}.txt" for number in range(8)))
    (said,) = only(tmp_path).warnings
    assert said == "left out, captions of no picture: 0.txt, 1.txt, 2.txt, 3.txt, 4.txt and 3 more"


def test_subfolders_are_subjects_in_natural_order(tmp_path):
    fill(tmp_path, "10_zkz dog/1.jpg", "2_wrs cat/1.jpg", "2_wrs cat/masks/1.png", "empty/readme.md")
    found = find_subject_folders(tmp_path)
    assert [folder.path.name for folder in found] == ["2_wrs cat", "10_zkz dog"]
    assert found[0].photos[0].mask is not None


def test_subfolders_beside_photos_are_named_and_not_read(tmp_path):
    fill(tmp_path, "1.jpg", "old/2.jpg", "masks/1.png")
    assert [photo.picture.name for photo in only(tmp_path).photos] == ["1.jpg"]
    assert only(tmp_path).warnings == (
        f"'{tmp_path.name}' has pictures of its own, so its subfolders are not read: old",)


@pytest.mark.parametrize(
    ("name", "words"),
    [("10_zkz dog", (10, "zkz", "dog")), ("1_sks toy car", (1, "sks", "toy car")), ("zkz dog", (None, "zkz", "dog")),
     ("5_zkz", (5, "zkz", "")), ("zkz_dog", (None, "zkz_dog", "")), ("7_zkz_x dog", (7, "zkz_x", "dog")),
     ("2024 trip", (None, "2024", "trip"))])
def test_a_folder_name_says_repeats_identifier_and_noun(name, words):
    found = read_folder_name(name)
    assert (found.repeats, found.identifier, found.class_noun) == words


def test_a_folder_name_without_a_word_is_refused():
    with pytest.raises(InputError, match="folder: got a subfolder '10_', expected the subject's words in its name"):
        read_folder_name("10_")


def test_a_folder_without_pictures_or_that_is_missing_is_refused(tmp_path):
    fill(tmp_path, "notes.txt", "sub/readme.md")
    with pytest.raises(InputError, match="folder: got no picture in"):
        find_subject_folders(tmp_path)
    with pytest.raises(InputError, match="folder: got 'nowhere', which cannot be read .No such file"):
        find_subject_folders(tmp_path / "nowhere")


def test_names_that_are_no_text_can_be_shown(tmp_path):
    fill(tmp_path, "dog.jpg")
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).touch()
    (said,) = only(tmp_path).warnings
    assert said.encode("utf-8") == b"left out, captions of no picture: caf\\udce9.txt"

"""Data Options, captions of single photos, and photos of several objects, as nodes."""

from __future__ import annotations

import pytest
import torch
from comfy_extras.nodes_dataset import LoadImageTextDataSetFromFolderNode
from PIL import Image
from run_node import run_node

from comfyui_personalize.core.data.options import DataOptions
from comfyui_personalize.core.errors import InputError
from comfyui_personalize.nodes.bridge.photos.photos import MAX_SIDE
from comfyui_personalize.nodes.data_options import DataOptionsNode
from comfyui_personalize.nodes.scene_photo import ObjectMask, ScenePhoto
from comfyui_personalize.nodes.subject_photos import SubjectPhotos

WORDS = (("sks", "dog"), ("tqz", "cat"), ("wrs", "toy car"))


def picture(height=32, width=48, batch=1):
    return torch.rand(batch, height, width, 3, generator=torch.Generator().manual_seed(height + width))


def stripe(number, height=32, width=48):
    mask = torch.zeros(1, height, width)
    mask[..., 16 * number * width // 48:16 * (number + 1) * width // 48] = 1
    return mask


def objects(count=2, **size):
    chain = None
    for number, (identifier, noun) in enumerate(WORDS[:count]):
        chain = run_node(ObjectMask, mask=stripe(number, **size), identifier=identifier, class_noun=noun,
                         objects=chain)[0]
    return chain


def scene(image=None, chain=None, template="{objects}", **others):
    return run_node(ScenePhoto, image=picture() if image is None else image, objects=chain or objects(),
                    caption_template=template, **others)[0]


def captioned(*captions, count=2, **others):
    words = {"identifier": "sks", "class_noun": "dog", "caption_template": "a {V} {noun}"}
    return run_node(SubjectPhotos, images={"image0": [picture(batch=count)]}, captions=list(captions),
                    **{name: [value] for name, value in (words | others).items()})[0][0]


def test_a_chain_of_masks_and_a_photo_are_one_subject():
    (subject,) = scene(chain=objects(3))
    assert subject.caption == "a sks dog, a tqz cat and a wrs toy car" and subject.names == WORDS
    (photo,) = subject.photos
    assert torch.equal(photo.pixels, picture()[0])
    assert all(torch.equal(mask, stripe(number)[0]) for number, mask in enumerate(photo.object_masks))


def test_scenes_and_subjects_chain():
    plain = run_node(SubjectPhotos, images={"image0": [picture()]}, identifier=["sks"], class_noun=["dog"],
                     caption_template=["a {V} {noun}"])[0]
    both = scene(subject=plain)
    assert both[0] is plain[0] and both[1].caption == "a sks dog and a tqz cat"


def test_a_large_photo_and_its_objects_are_scaled_together():
    (photo,) = scene(picture(600, 3000), objects(height=600, width=3000))[0].photos
    assert photo.pixels.shape == (round(600 * MAX_SIDE / 3000), MAX_SIDE, 3)
    assert all(mask.shape == photo.pixels.shape[:2] for mask in photo.object_masks)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: scene(picture(batch=2)), "image: got 2 photos, expected one photo"),
    (lambda: scene(picture(24, 24)), "a mask of 48 x 32 for a photo of 24 x 24"),
    (lambda: scene(template="two toys"), "captions: got 'two toys' for photo 1, without 'sks'"),
    (lambda: scene(chain=objects(1) * 2), "identifier: got 'sks' for two objects"),
    (lambda: scene(chain=run_node(ObjectMask, mask=stripe(0) * 0, identifier="sks", class_noun="dog")[0]),
     "masks: got an empty mask"),
    (lambda: scene(chain=run_node(ObjectMask, mask=stripe(0).expand(2, -1, -1), identifier="a", class_noun="b")[0]),
     "masks: got 2 masks for one object"),
    (lambda: scene(chain=run_node(ObjectMask, mask=torch.zeros(1, 64, 64), identifier="a", class_noun="b")[0]),
     "Load Image gives it"),
])
def test_scenes_that_cannot_be_learned_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_typed_identifier_is_refused_when_the_graph_is_queued():
    assert ObjectMask.validate_inputs(identifier="sks") is ObjectMask.validate_inputs(identifier=None) is True
    assert "identifier: got an empty text" in ObjectMask.validate_inputs(identifier=" ")


@pytest.mark.parametrize("captions", [("{V} {noun} at home", ""), ("{V} {noun} at home\n\n",),
                                      ("sks  dog at home\n \n\n",)])
def test_captions_come_as_a_list_or_as_lines(captions):
    subject = captioned(*captions)
    assert [subject.caption_of(photo) for photo in subject.photos] == ["sks dog at home", "a sks dog"]


@pytest.mark.parametrize("captions", [("",), ("\n \n",), ("", "")])
def test_empty_captions_are_none(captions):
    assert [photo.caption for photo in captioned(*captions).photos] == [None, None]


@pytest.mark.parametrize(("captions", "message"), [
    (("one {V}", "two {V}", "three {V}"), "captions: got 3 captions for 2 photos"),
    (("one {V}\ntwo {V}\nthree {V}",), "captions: got 3 captions for 2 photos"),
    (("a dog", "a {V} dog"), "captions: got 'a dog' for photo 1, without 'sks'"),
])
def test_captions_that_do_not_fit_are_refused(captions, message):
    with pytest.raises(InputError, match=message):
        captioned(*captions)


def test_caption_files_beside_photos_are_read_by_the_stock_loader(base_directory):
    folder = base_directory / "input" / "captioned"
    folder.mkdir()
    for name in ("one", "two"):
        Image.new("RGB", (32, 32), name == "one" and (255, 0, 0) or (0, 0, 255)).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(f"{{V}} {{noun}} number {name}")
    images, texts = LoadImageTextDataSetFromFolderNode.execute("captioned").args
    words = {"identifier": ["sks"], "class_noun": ["dog"], "caption_template": ["a {V} {noun}"]}
    (subject,), *_ = run_node(SubjectPhotos, images={"image0": images}, captions=texts, **words)
    for photo in subject.photos:
        expected = "one" if photo.pixels[0, 0, 0] > 0.5 else "two"
        assert subject.caption_of(photo) == f"sks dog number {expected}"


def test_data_options_travel_with_their_subject():
    given = {"shape": "buckets", "repeats": 2, "flip": True, "views": 3, "jitter": 0.2, "caption_dropout": 0.1}
    options = run_node(DataOptionsNode, **given)[0]
    assert options == DataOptions(**given)
    assert captioned("", data=options).data == options and scene(data=options)[0].data == options
    assert captioned("").data == scene()[0].data == DataOptions()


def test_a_caption_that_a_flip_contradicts_is_warned_about(caplog):
    captioned("{V} {noun} looks left", "", data=DataOptions(flip=True))
    assert "mirrored views contradict it" in caplog.text


def test_the_widgets_defaults_are_the_configs_own():
    defaults = {entry.id: entry.default for entry in DataOptionsNode.define_schema().inputs}
    assert DataOptions(**defaults) == DataOptions()
    assert all(entry.tooltip.endswith(".") for node in (DataOptionsNode, ObjectMask, ScenePhoto)
               for entry in node.define_schema().inputs)

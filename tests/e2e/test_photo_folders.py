"""Folders of photos and of class images through a real server: read, trained on, and read again once changed."""

from __future__ import annotations

import numpy
import pytest
from PIL import Image

ROTATED, ORIENTATION = 6, 0x0112


@pytest.fixture
def folders(server):
    """`my_dog`: two phone photos with captions; `dogs`: four pictures of the class."""
    mine, dogs = server.base / "input" / "my_dog", server.base / "input" / "dogs"
    for folder, count in ((mine, 2), (dogs, 4)):
        folder.mkdir()
        for number in range(count):
            values = numpy.random.default_rng(number + count).integers(0, 255, (64, 80, 3), numpy.uint8)
            exif = Image.Exif()
            exif[ORIENTATION] = ROTATED
            Image.fromarray(values).save(folder / f"{number}.jpg", exif=exif)
    (mine / "1.txt").write_bytes("a {V} {noun} outside\r\n".encode("utf-16"))
    return mine, dogs


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


GRAPH = {
    "model": node("CheckpointLoaderSimple", ckpt_name="pocket.safetensors"),
    "photos": node("PersonalizePhotosFromFolder", folder="my_dog", identifier="zkz", class_noun="dog",
                   caption_template="a {V} {noun}"),
    "class": node("PersonalizeRegularizationImages", vae=["model", 2], folder="dogs", class_noun="dog", size=64),
    "prior": node("PersonalizePriorPreservation", prior=["class", 0], source="class images", weight=1.0),
    "train": node("PersonalizeTrainer", model=["model", 0], clip=["model", 1], vae=["model", 2], subject=["photos", 0],
                  objective=["prior", 0], steps=2, learning_rate=1e-4, batch=2, resolution=64, seed=0,
                  run_name="folders"),
    "show": node("PreviewImage", images=["photos", 1]),
}


def test_folders_are_trained_on_upright_and_a_changed_caption_is_another_run(server, folders):
    shown = server.client.run(GRAPH)
    report = shown["train"]["text"][0]
    assert "trained 2 steps" in report and "each of 4 dog class images once" in report
    assert len(shown["photos"]["images"]) == 1, "no sheet of what was read"
    sizes = [Image.open(server.base / "temp" / picture["filename"]).size for picture in shown["show"]["images"]]
    assert sizes == [(64, 80), (64, 80)]
    (folders[0] / "0.txt").write_text("a {V} {noun} in a car")
    assert "run folders-2: trained 2 steps" in server.client.run(GRAPH)["train"]["text"][0]
    (folders[0] / "0.txt").unlink()
    assert "run folders: loaded 2 steps" in server.client.run(GRAPH)["train"]["text"][0]

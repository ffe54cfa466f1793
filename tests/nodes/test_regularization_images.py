"""RegularizationImages: pictures of one's own as class images, from sockets and folders, through a whole run."""

from __future__ import annotations

import itertools
import math

import numpy
import pytest
import torch
from PIL import Image
from run_node import run_node
from trainer_rig import equal, photos, subjects, train

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.learning.token_vectors import TokenVectorsConfig
from comfyui_personalize.core.objectives import PriorPreservation
from comfyui_personalize.core.store.class_images import ClassImages
from comfyui_personalize.nodes.bridge.photos.latents import encode_view, photo_crops
from comfyui_personalize.nodes.bridge.sockets import ObjectiveChain, TokenVectorsSettings
from comfyui_personalize.nodes.prior_preservation import PriorPreservationNode
from comfyui_personalize.nodes.regularization_images import RegularizationImages

pytestmark = pytest.mark.usefixtures("store")

COUNTER = itertools.count()


@pytest.fixture
def folder(base_directory):
    path = base_directory / "input" / f"class{next(COUNTER)}"
    path.mkdir()
    return path


def pictures(count=3, seed=7):
    return [photo.pixels[None] for photo in photos(count, seed)]


def pool_of(models, *images, folder="none", captions=(), prior=None, **changes):
    """PRIOR and IMAGE, as the executor calls the node: every input is a list."""
    inputs = {"class_noun": "dog", "size": 64} | changes
    return run_node(RegularizationImages, vae=[models[2]], folder=[folder], images=list(images) or None,
                    captions=list(captions) or None, prior=None if prior is None else [prior],
                    **{name: [value] for name, value in inputs.items()})


def chain(pools, weight=1.0):
    return PriorPreservationNode.execute("class images", weight, prior=pools).args[0]


def test_a_pool_is_the_latents_of_the_pictures_centred_squares(models):
    (pool,), shown = pool_of(models, *pictures())
    assert isinstance(pool, ClassImages) and (pool.prompt, pool.size, pool.captions) == ("a dog", 64, ())
    assert pool.latents.shape == (3, 4, 8, 8) and not pool.latents.is_inference()
    first = photos(3, 7)[0]
    expected = encode_view(models[2], first, photo_crops(first, 64, subjects()[0].data)[0])
    assert torch.equal(pool.latents[0], expected) and shown.shape == (3, 64, 64, 3)


def test_pictures_are_encoded_once_and_more_keep_what_is_there(models, monkeypatch):
    encoded, encode = [], models[2].encode
    monkeypatch.setattr(models[2], "encode", lambda pixels: (encoded.append(1), encode(pixels))[1])
    (first,), _ = pool_of(models, *pictures(2))
    (again,), _ = pool_of(models, *pictures(2))
    assert len(encoded) == 2 and torch.equal(first.latents, again.latents) and first.key == again.key
    (more,), _ = pool_of(models, *pictures(3))
    assert len(encoded) == 3 and more.key != first.key


def test_a_folder_and_connected_pictures_make_one_pool(models, folder):
    for number in (1, 2):
        values = numpy.random.default_rng(number).integers(0, 255, (70, 64, 3), numpy.uint8)
        Image.fromarray(values).save(folder / f"{number}.png")
    (folder / "2.txt").write_bytes("a {noun} asleep\r\n".encode("utf-16"))
    (pool,), _ = pool_of(models, *pictures(1), folder=folder.name, captions=["a wet {noun}"])
    assert pool.captions == ("a dog", "a dog asleep", "a wet dog") and len(pool.latents) == 3


def test_equal_pictures_of_a_folder_and_of_sockets_have_one_key(models, folder):
    values = numpy.random.default_rng(1).integers(0, 255, (64, 64, 3), numpy.uint8)
    Image.fromarray(values).save(folder / "1.png")
    (own,), _ = pool_of(models, torch.from_numpy(values.astype(numpy.float32) / 255)[None])
    assert pool_of(models, folder=folder.name)[0][0].key == own.key


def test_the_whole_method_trains_reports_and_saves_the_subject_alone(models, store):
    pools, _ = pool_of(models, *pictures(4), captions=["a {noun} asleep", "", "", ""])
    words = (TokenVectorsSettings(identifier="sks", config=TokenVectorsConfig(word="sks", start_text="dog")),)
    *_, personalization, report, _ = train(models, objective=chain(pools), token_vectors=words, steps=4)
    assert "Each of your 2 photos was used 2 times, each of 4 dog class images once." in report
    assert personalization.metadata["identifiers"] == ["sks"] and personalization.metadata["class_nouns"] == ["dog"]
    assert personalization.metadata["config"]["objectives"] == [{"kind": "prior_preservation", "weight": 1.0}]
    assert "loaded 4 steps" in train(models, objective=chain(pools), token_vectors=words, steps=4)[6]


def test_the_weight_the_pictures_and_their_captions_each_make_another_run(models):
    def lora(images, weight=1.0, captions=()):
        pools, _ = pool_of(models, *images, captions=captions)
        return train(models, objective=chain(pools, weight), steps=2)[2]

    plain = lora(pictures(2))
    assert equal(plain, lora(pictures(2)))
    for other in (lora(pictures(2, seed=9)), lora(pictures(2), weight=5.0),
                  lora(pictures(2), captions=["a dog asleep", "a dog"])):
        assert not equal(plain, other)


def test_one_image_stands_beside_every_photo_of_a_batch(models):
    pools, _ = pool_of(models, *pictures(4))
    report = train(models, objective=chain(pools), batch=2, steps=4)[6]
    assert "Each of your 2 photos was used 4 times, each of 4 dog class images 2 times." in report


def test_own_and_generated_pools_of_two_nouns_chain_and_of_one_noun_are_refused(models):
    generated = ClassImages(class_noun="cat", prompt="a cat", latents=torch.zeros(2, 4, 8, 8), key="c", size=64)
    pools, _ = pool_of(models, *pictures(), prior=(generated,))
    assert [pool.class_noun for pool in pools] == ["cat", "dog"] and pools[0] is generated
    with pytest.raises(InputError, match="class_noun: got 'Cat' twice.*own and generated ones are not mixed"):
        pool_of(models, *pictures(), prior=(generated,), class_noun="Cat")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "images: got no picture, expected 1 or more pictures of the class"),
        ({"folder": "nowhere"}, "folder: got 'nowhere', expected a subfolder"),
        ({"size": 100}, "size: got 100, expected 64 pixels or more, a multiple of 8"),
        ({"captions": ["a dog", "a dog", "a dog"]}, "captions: got 3 captions for 0 photos"),
    ],
)
def test_what_cannot_be_used_is_refused(models, inputs, message):
    with pytest.raises(InputError, match=message):
        pool_of(models, **inputs)


def test_a_loader_without_a_vae_is_named():
    with pytest.raises(InputError, match="vae: got nothing, expected a VAE"):
        pool_of((None, None, None), *pictures(1))


def test_a_folder_of_several_classes_and_a_broken_picture_are_named(models, folder):
    for name in ("1_dog", "1_cat"):
        (folder / name).mkdir()
        Image.new("RGB", (16, 16)).save(folder / name / "1.png")
    with pytest.raises(InputError, match="folder: got 2 subfolders with pictures, expected the pictures of one class"):
        pool_of(models, folder=folder.name)
    assert len(pool_of(models, folder=f"{folder.name}/1_dog")[0][0].latents) == 1
    (folder / "1_dog" / "2.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match="images: got 2.jpg, which cannot be read"):
        pool_of(models, folder=f"{folder.name}/1_dog")


def test_the_trainer_refuses_another_size_and_an_identifier_in_a_caption(models):
    pools, _ = pool_of(models, *pictures(2), size=72)
    with pytest.raises(InputError, match="class images: got 72 pixels for 'dog', expected 64 pixels"):
        train(models, objective=chain(pools))
    pools, _ = pool_of(models, *pictures(2), captions=["a SKS dog", "a dog"])
    with pytest.raises(InputError, match="class images: got the caption 'a SKS dog', expected captions without the"):
        train(models, objective=chain(pools))
    unused = ObjectiveChain(class_images=pools)
    assert len(train(models, objective=unused)[3]["loss"]) == 3


def test_few_pictures_and_an_empty_noun_are_warned_about(models, caplog):
    pool_of(models, *pictures(2), class_noun=" ")
    assert "2 regularization images are few" in caplog.text and "the class noun is empty" in caplog.text
    caplog.clear()
    pool_of(models, *pictures(20))
    assert caplog.text == ""


def test_folders_are_refused_when_the_graph_is_queued(folder):
    validate = RegularizationImages.validate_inputs
    assert validate(folder=["none"]) is validate(folder=[None]) is validate(folder=[folder.name]) is True
    assert "folder: got '../x'" in validate(folder=["../x"])


def test_a_changed_folder_is_seen(folder):
    Image.new("RGB", (16, 16)).save(folder / "1.png")
    before = RegularizationImages.fingerprint_inputs(folder=[folder.name])
    assert RegularizationImages.fingerprint_inputs(folder=[folder.name]) == before
    Image.new("RGB", (16, 16), "red").save(folder / "1.png")
    assert RegularizationImages.fingerprint_inputs(folder=[folder.name]) != before
    assert RegularizationImages.fingerprint_inputs(folder=["none"]) == "none"
    assert math.isnan(RegularizationImages.fingerprint_inputs(folder=None))


def test_prior_preservation_takes_it(models):
    pools, _ = pool_of(models, *pictures(1))
    assert chain(pools, 0.5).objectives == (PriorPreservation(weight=0.5),)

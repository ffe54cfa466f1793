"""Buckets, views, captions and several objects, through the trainer node on the tiny model."""

from __future__ import annotations

from dataclasses import replace

import comfy.model_management
import pytest
import torch
from tiny_model import tiny_models
from trainer_rig import CancelAt, equal, photos, subjects, train, use_store

from comfyui_personalize.core.data.options import DataOptions
from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.objectives import (
    BasePrior,
    LossWeighting,
    MaskedLoss,
    MaskedPrior,
    ObjectSpecificLoss,
    PriorPreservation,
)
from comfyui_personalize.core.store.class_images import ClassImages
from comfyui_personalize.core.subject.subject import Photo, SceneObject, Subject, make_scene
from comfyui_personalize.nodes.bridge.sockets import ObjectiveChain
from comfyui_personalize.nodes.bridge.training import checks as training_checks

pytestmark = pytest.mark.usefixtures("inference_mode", "store")
Interrupted = comfy.model_management.InterruptProcessingException
EVERYTHING = DataOptions(shape="buckets", repeats=2, flip=True, views=2, caption_dropout=0.3)


@pytest.fixture
def models():
    return tiny_models()


def scene(**changes) -> Subject:
    left, right = torch.zeros(72, 96), torch.zeros(72, 96)
    left[10:60, 20:45], right[10:60, 50:80] = 1, 1
    return make_scene(photos()[0].pixels, [SceneObject(identifier="sks", class_noun="dog", mask=left),
                                           SceneObject(identifier="tqz", class_noun="cat", mask=right)], **changes)


def upright() -> Photo:
    wide = photos(masked=True)[0]
    return Photo(pixels=wide.pixels.movedim(0, 1).contiguous(), mask=wide.mask.T.contiguous())


def mixed() -> tuple[Subject, ...]:
    """A subject of wide and upright photos with every option, and a scene."""
    return (*subjects(photos=(*photos(masked=True), upright()), data=EVERYTHING), scene(data=EVERYTHING))


def pools(*nouns: str, size: int = 64) -> tuple[ClassImages, ...]:
    return tuple(ClassImages(class_noun=noun, prompt=f"a {noun}", key=noun, size=size,
                             latents=torch.randn(3, 4, size // 8, size // 8)) for noun in nouns)


def chain(*objectives, class_images=()) -> ObjectiveChain:
    return ObjectiveChain().extended(*objectives, class_images=class_images)


def all_objectives(class_images) -> ObjectiveChain:
    return chain(PriorPreservation(), BasePrior(), MaskedLoss(background_weight=0.5), MaskedPrior(),
                 ObjectSpecificLoss(), LossWeighting(weighting="min_snr", loss="huber", noise_offset=0.05),
                 class_images=class_images)


def test_everything_together_trains_and_a_cancelled_run_resumes_to_the_same_bits(models, monkeypatch, tmp_path):
    class_images = pools("dog", "cat")
    given = {"subject": mixed(), "objective": all_objectives(class_images), "batch": 2, "steps": 4}
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        CancelAt(patch, 2)
        train(models, **given)
    resumed = train(models, **given)
    assert "resumed from step 2" in resumed[6]
    use_store(tmp_path / "other", monkeypatch)
    whole = train(models, **given)
    assert equal(resumed[2], whole[2])
    assert all(said in whole[6] for said in ("Each of your 4 photos was used", ", in 4 views,", "cat class images"))
    metadata = whole[5].metadata
    assert metadata["identifiers"] == ["sks", "sks", "tqz"] and metadata["class_nouns"] == ["dog", "dog", "cat"]
    assert metadata["data_options"][0]["shape"] == "buckets"


@pytest.mark.parametrize("options", [{"flip": True}, {"views": 2}, {"shape": "buckets"}, {"repeats": 2},
                                     {"caption_dropout": 0.5}], ids=str)
def test_other_data_options_are_another_run(models, store, options):
    first = train(models, steps=1, subject=subjects(data=DataOptions(**options)))
    assert train(models, steps=1, subject=subjects())[2].keys() == first[2].keys()
    assert (store / "test-2").exists()


def test_the_base_model_as_prior_needs_no_class_images(models):
    outputs = train(models, objective=chain(BasePrior()))
    assert len(outputs[3]["loss"]) == 3 and "class images" not in outputs[6]


def test_unused_class_images_change_no_bit(models):
    plain = train(models, steps=2, run_name="plain")
    objective = chain(LossWeighting(), class_images=pools("dog", size=128))
    unused = train(models, steps=2, objective=objective, run_name="unused")
    assert equal(plain[2], unused[2])


def test_the_report_names_photos_masks_and_sizes_that_will_disappoint(models, monkeypatch):
    monkeypatch.setattr(training_checks, "trained_at", lambda model: (512, 512))
    grey, mask = torch.full((32, 96, 3), 0.5), torch.ones(32, 96)
    mask[8:24, 24:72] = 0
    report = train(models, steps=1, batch=3, subject=subjects(photos=(Photo(pixels=grey, mask=mask),)))[6]
    assert "Warning: nothing can be learned from photo 1: all of one colour" in report
    assert "Warning: the crop leaves less than half of photo 1" in report
    assert "probably the background, in photo 1" in report
    assert "Warning: a batch of 3 holds some of the 1 photos more than once" in report
    assert "a resolution of 64 is far from the 512 pixels that Stable Diffusion 1.x / 2.x was trained at" in report


def test_ordinary_photos_are_trained_without_a_warning(models):
    assert "Warning" not in train(models, steps=1, batch=2)[6]


def test_the_same_subject_in_a_scene_and_in_photos_of_its_own_is_no_warning(models):
    given = {"steps": 1, "objective": chain(MaskedLoss())}
    own, other = subjects(photos=photos(masked=True)), subjects(photos=photos(masked=True), class_noun="cat")
    report = train(models, subject=(*own, scene()), **given)[6]
    assert "share the identifier" not in report and "nothing tells them apart" in report
    assert "two subjects share the identifier 'sks'" in train(models, subject=(*other, scene()), **given)[6]


def test_class_images_of_the_noun_in_another_case_are_the_same_run_to_the_bit(models):
    pool, = pools("dog")
    objective = chain(PriorPreservation(), class_images=(pool,))
    plain = train(models, objective=objective, run_name="plain")
    shouted = chain(PriorPreservation(), class_images=(replace(pool, class_noun=" DOG"),))
    other = train(models, objective=shouted, run_name="other")
    mixed = train(models, subject=(*subjects(), *subjects(class_noun="Dog", identifier="tqz")), objective=objective)
    assert equal(plain[2], other[2]) and len(mixed[3]["loss"]) == 3


def test_subjects_whose_identifiers_clip_reads_alike_are_warned_about(models):
    pair = (*subjects(), *subjects(identifier="SKS", class_noun="cat"))
    assert "two subjects share the identifier 'SKS' or 'sks': they will blend" in train(models, subject=pair)[6]


def test_captions_with_the_identifier_in_capitals_train_as_those_without(models):
    def run(*captions):
        given = tuple(replace(photo, caption=text) for photo, text in zip(photos(2), captions, strict=True))
        return train(models, subject=subjects(photos=given), run_name=captions[0])[2]

    assert equal(run("Sks dog on a beach", "a SKS dog"), run("sks dog on a beach", "a sks dog"))


@pytest.mark.parametrize(("given", "message"), [
    ({"objective": chain(PriorPreservation(), class_images=pools("dog"))},
     "prior: got no class images of 'cat', but of 'dog'"),
    ({"subject": subjects(class_noun=""), "objective": chain(PriorPreservation(), class_images=pools("dog"))},
     "class_noun: got an empty text for a subject"),
    ({"objective": chain(PriorPreservation(), class_images=pools("dog", "cat", size=72))},
     "class images: got 72 pixels for 'dog', expected 64 pixels"),
    ({"subject": (scene(), *subjects()), "objective": chain(MaskedPrior())}, "masks: got no mask for photo 2"),
])
def test_refused_before_anything_is_encoded(models, monkeypatch, given, message):
    monkeypatch.setattr(models[2], "encode", lambda _: pytest.fail("encoded"))
    with pytest.raises(InputError, match=message):
        train(models, **{"subject": (scene(),)} | given)

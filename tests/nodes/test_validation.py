"""A judged run hands on its best checkpoint, stops when patience is over, and is found again."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import comfy.model_management
import pytest
import torch
from torch.nn import functional
from trainer_rig import CancelAt, equal, photos, subjects, train

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.store.files import read_metadata
from comfyui_personalize.core.training.trainer import Trainer
from comfyui_personalize.core.training.validation import ValidationConfig
from comfyui_personalize.nodes.bridge.sockets import PreviewSettings, Validation
from comfyui_personalize.nodes.validation import ValidationNode

pytestmark = pytest.mark.usefixtures("inference_mode")
HELD_OUT = subjects(photos=photos(1, seed=7))


def judged_by(monkeypatch, losses) -> list[int]:
    """Replace the validation loss by these, and count how many were asked for."""
    asked: list[int] = []

    def validation_loss(trainer):
        asked.append(trainer.step)
        return losses[len(asked) - 1]

    monkeypatch.setattr(Trainer, "validation_loss", validation_loss)
    return asked


def settings(**changes) -> Validation:
    return Validation(config=ValidationConfig(**{"every": 1, "draws": 2} | changes), held_out=HELD_OUT)


def test_the_node_carries_its_widgets_and_photos():
    (value,) = ValidationNode.execute(5, "last", 0, 3, 2, "", HELD_OUT).result
    assert value.config == ValidationConfig(every=5, best_by="last", draws=3, pictures=2) and value.held_out == HELD_OUT


def test_the_best_checkpoint_is_handed_on_and_loaded_again(store, models, monkeypatch):
    plain = train(models, steps=2)[2]
    asked = judged_by(monkeypatch, [3.0, 1.0, 2.0])
    _, _, lora, _, _, personalization, report, _ = train(models, steps=3, validation=settings())
    assert asked == [1, 2, 3] and equal(lora, plain)
    assert "best of 3 checkpoints is step 2 of 3" in report and personalization.metadata["steps"] == 2
    again = train(models, steps=3, validation=settings())
    assert len(asked) == 3 and equal(again[2], lora) and "nothing to train" in again[6]
    assert personalization.validation == again[5].validation == {1: 3.0, 2: 1.0, 3: 2.0}


def test_patience_ends_the_run_and_the_same_graph_loads_it(store, models, monkeypatch):
    asked = judged_by(monkeypatch, [1.0, 2.0, 3.0])
    _, _, lora, losses, _, _, report, _ = train(models, steps=9, validation=settings(patience=2))
    assert asked == [1, 2, 3] and len(losses["loss"]) == 3 and "trained 3 steps" in report
    again = train(models, steps=9, validation=settings(patience=2))
    assert len(asked) == 3 and equal(again[2], lora) and "loaded 3 steps" in again[6]


def test_a_cancelled_run_remembers_its_best_checkpoint(store, models, monkeypatch):
    whole = train(models, steps=4, validation=settings(), run_name="whole")[2]
    with monkeypatch.context() as patch:
        CancelAt(patch, 2)
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            train(models, steps=4, validation=settings(), seed=2)
    resumed = train(models, steps=4, validation=settings(), seed=2)
    fresh = train(models, steps=4, validation=settings(), seed=2, run_name="whole")
    assert resumed[5].validation.keys() == {1, 2, 3, 4} and equal(resumed[2], fresh[2])
    assert not equal(whole, resumed[2])


def test_judging_changes_no_bit_of_the_result(store, models):
    plain = train(models, steps=2)
    judged = train(models, steps=2, validation=settings(best_by="last"))
    assert equal(plain[2], judged[2]) and torch.equal(torch.tensor(plain[3]["loss"]), torch.tensor(judged[3]["loss"]))


class Brightness:
    """Stands for a CLIP: pictures as their mean colour, texts as one direction."""

    text_projection = torch.eye(3)
    model = SimpleNamespace(text_model=torch.nn.Linear(1, 1))

    def embed_images(self, pixels):
        return functional.normalize(pixels.mean(dim=(1, 2)) + 0.01, dim=-1)

    def embed_texts(self, prompts):
        self.prompts = prompts
        return functional.normalize(torch.ones(len(prompts), 3), dim=-1)


def test_figures_of_pictures_come_from_the_previews_settings_and_choose_the_best(store, models):
    judge = Brightness()
    preview = PreviewSettings(prompt="a sks dog at night", steps=1, cfg=1.0, every=100)
    by_pictures = settings(best_by="clip_i", pictures=2)
    validation = replace(by_pictures, image_text=judge, dino=judge, held_out=())
    report = train(models, steps=2, validation=validation, preview=preview)[6]
    assert "best of 2 checkpoints" in report and "clip_i" in report
    assert judge.prompts == ["a dog at night"]
    judged = find_state(store)["figures"]
    assert all(entry.keys() == {"step", "clip_i", "clip_t", "dino"} for entry in judged)
    assert all(0 < entry["clip_i"] <= 1.001 and entry["dino"] == entry["clip_i"] for entry in judged)


def find_state(store):
    """What the one run's newest state says of itself."""
    (path,) = store.glob("*/state.safetensors")
    return read_metadata(path)["state"]


@pytest.mark.parametrize(("changes", "message"), [
    ({"best_by": "clip_i"}, "best_by: got 'clip_i', expected an encoder"),
    ({"best_by": "dino"}, "best_by: got 'dino', expected an encoder")])
def test_a_figure_without_its_encoder_is_refused(store, models, changes, message):
    with pytest.raises(InputError, match=message):
        train(models, validation=settings(**changes))


def test_a_figure_of_pictures_needs_a_preview(store, models):
    with pytest.raises(InputError, match="expected pictures to look at. Connect Training Preview"):
        train(models, validation=replace(settings(best_by="clip_t"), image_text=Brightness()))


def test_a_photo_that_is_trained_on_cannot_judge(store, models):
    with pytest.raises(InputError, match="held_out: got 1 photos that are trained on, too"):
        train(models, validation=replace(settings(), held_out=subjects(photos=photos(1))))


def test_a_judged_run_needs_photos(store, models):
    with pytest.raises(InputError, match="held_out: got no photo"):
        train(models, validation=replace(settings(), held_out=()))

"""Option and objective nodes, and everything that the trainer refuses before it loads a model."""

from __future__ import annotations

import comfy.model_management
import pytest
import torch
from tiny_model import tiny_models
from trainer_rig import photos, subjects, train

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.learning.adapter import AdapterConfig
from comfyui_personalize.core.objectives import (
    BasePrior,
    BlankPromptPreservation,
    LossWeighting,
    MaskedLoss,
    MaskedPrior,
    ObjectSpecificLoss,
    PriorPreservation,
)
from comfyui_personalize.core.store.class_images import ClassImages
from comfyui_personalize.core.training.config import TrainingConfig, TrainingOptions
from comfyui_personalize.nodes import NODES
from comfyui_personalize.nodes.blank_prompt_preservation import BlankPromptPreservationNode
from comfyui_personalize.nodes.bridge.sockets import ObjectiveChain, PreviewSettings
from comfyui_personalize.nodes.bridge.training.checks import warnings_about_own_masks
from comfyui_personalize.nodes.bridge.training.request import Request
from comfyui_personalize.nodes.loss_weighting import LossWeightingNode
from comfyui_personalize.nodes.masked_loss import MaskedLossNode
from comfyui_personalize.nodes.prior_preservation import PriorPreservationNode
from comfyui_personalize.nodes.training_options import TrainingOptionsNode
from comfyui_personalize.nodes.training_preview import TrainingPreview

pytestmark = pytest.mark.usefixtures("inference_mode", "store")
MINE = [node for node in NODES if node.__module__.rpartition(".")[2] in {
    "training_options", "training_preview", "prior_preservation", "masked_loss", "personalize_trainer",
    "save_personalization", "load_personalization", "blank_prompt_preservation"}]


@pytest.fixture
def models():
    return tiny_models()


def defaults(node) -> dict:
    """Every widget's default."""
    return {entry.id: entry.default for entry in node.define_schema().inputs
            if getattr(entry, "default", None) is not None}


def pool(noun: str = "dog", size: int = 64, count: int = 3) -> ClassImages:
    latents = torch.randn(count, 4, size // 8, size // 8, generator=torch.Generator().manual_seed(4))
    return ClassImages(class_noun=noun, prompt=f"a {noun}", latents=latents, key=f"{noun}{size}{count}", size=size)


def chain(*objectives, pools=()) -> ObjectiveChain:
    return ObjectiveChain().extended(*objectives, class_images=pools)


@pytest.mark.parametrize("node", MINE, ids=lambda node: node.__name__)
def test_every_input_has_a_tooltip_and_at_most_eight_widgets_are_in_sight(node):
    schema = node.define_schema()
    assert schema.category == "personalize" and len(MINE) == 8
    assert all(entry.tooltip and entry.tooltip.endswith(".") for entry in schema.inputs), schema.node_id
    widgets = [entry for entry in schema.inputs if hasattr(entry, "default") and not entry.advanced]
    assert len(widgets) <= 8


def test_the_option_nodes_defaults_are_the_configs_own():
    options = TrainingOptionsNode.execute(**defaults(TrainingOptionsNode)).result[0]
    assert options == TrainingOptions(adapter=AdapterConfig(targets="auto"))
    assert MaskedLossNode.execute(**defaults(MaskedLossNode)).result[0].objectives == (MaskedLoss(),)
    weighting = LossWeightingNode.execute(**defaults(LossWeightingNode)).result[0]
    assert weighting.objectives == (LossWeighting(levels="auto"),)
    made = PriorPreservationNode.execute(prior=(pool(),), **defaults(PriorPreservationNode)).result[0]
    assert made.objectives == (PriorPreservation(),)
    blank = BlankPromptPreservationNode.execute(**defaults(BlankPromptPreservationNode)).result[0]
    assert blank.objectives == (BlankPromptPreservation(),)


@pytest.mark.parametrize(("source", "prior", "expected"), [
    ("class images", (pool,), {PriorPreservation(weight=0.5)}), ("base model", (), {BasePrior(weight=0.5)}),
    ("both", (pool,), {PriorPreservation(weight=0.5), BasePrior(weight=0.5)})])
def test_the_source_of_the_prior_chooses_its_objectives(source, prior, expected):
    pools = tuple(make() for make in prior)
    made = PriorPreservationNode.execute(source=source, weight=0.5, prior=pools or None).result[0]
    assert set(made.objectives) == expected and made.class_images == pools


@pytest.mark.parametrize("source", ["base model", "both"])
def test_the_base_model_is_asked_under_the_class_prompt_or_the_whole_caption(source):
    given = {"source": source, "weight": 1.0, "prior": (pool(),) if source == "both" else None}
    made = PriorPreservationNode.execute(**given, base_prompt="whole caption").result[0]
    assert BasePrior(prompt="caption") in made.objectives
    assert BasePrior() in PriorPreservationNode.execute(**given).result[0].objectives


def test_the_blank_prompt_joins_other_objectives():
    first = PriorPreservationNode.execute(source="base model", weight=1.0).result[0]
    made = BlankPromptPreservationNode.execute(weight=0.5, probability=0.2, objective=first).result[0]
    assert set(made.objectives) == {BasePrior(), BlankPromptPreservation(weight=0.5, probability=0.2)}


def test_captions_and_the_empty_prompt_are_kept_in_a_real_model(models):
    objectives = chain(BasePrior(prompt="caption"), BlankPromptPreservation())
    outputs = train(models, objective=objectives, batch=2)
    assert len(outputs[3]["loss"]) == 3 and outputs[0] is not models[0]


@pytest.mark.parametrize(("source", "prior", "message"), [
    ("class images", None, "no class images for the source 'class images'.*or choose base model"),
    ("both", (), "no class images for the source 'both'"),
    ("base model", (1,), "class images that the source base model does not use")])
def test_a_prior_that_does_not_fit_its_source_is_refused(source, prior, message):
    with pytest.raises(InputError, match=message):
        PriorPreservationNode.execute(source=source, weight=1.0, prior=prior)


@pytest.mark.parametrize(("background", "expected"), [
    ("ignore", {MaskedLoss()}), ("weight", {MaskedLoss(background_weight=0.5)}),
    ("keep the base model's", {MaskedLoss(background_weight=0.5), MaskedPrior()})])
def test_the_background_is_ignored_weighed_or_kept(background, expected):
    given = defaults(MaskedLossNode) | {"background": background, "background_weight": 0.5}
    assert set(MaskedLossNode.execute(**given).result[0].objectives) == expected


def test_a_preview_node_gives_its_settings():
    settings = TrainingPreview.execute(**defaults(TrainingPreview) | {"every": 7, "negative_prompt": "x"}).result[0]
    assert isinstance(settings, PreviewSettings) and settings.every == 7 and settings.negative_prompt == "x"


def test_a_target_pattern_replaces_the_targets():
    given = defaults(TrainingOptionsNode) | {"target_pattern": r".*attn2\.to_k"}
    assert TrainingOptionsNode.execute(**given).result[0].adapter.targets == r".*attn2\.to_k"


def test_the_background_that_is_kept_is_outside_the_grown_mask_and_the_key_names_growth_alone():
    given = defaults(MaskedLossNode) | {"background": "keep the base model's", "dilation": 2}
    assert MaskedPrior(dilation=2) in MaskedLossNode.execute(**given).result[0].objectives
    assert MaskedPrior().to_dict() == {"kind": "masked_prior"}


def test_the_object_term_is_a_second_objective():
    given = defaults(MaskedLossNode) | {"object_term": True, "object_weight": 0.5, "dilation": 2, "objects_per_step": 3}
    made = MaskedLossNode.execute(**given).result[0]
    assert set(made.objectives) == {MaskedLoss(dilation=2),
                                    ObjectSpecificLoss(weight=0.5, dilation=2, objects_per_step=3)}


def test_objectives_chain_in_any_order_and_never_twice():
    prior, masked = defaults(PriorPreservationNode), defaults(MaskedLossNode)
    first = PriorPreservationNode.execute(prior=(pool(),), **prior).result[0]
    one = MaskedLossNode.execute(**masked, objective=first).result[0]
    second = MaskedLossNode.execute(**masked).result[0]
    two = PriorPreservationNode.execute(prior=(pool(),), **prior, objective=second).result[0]
    assert one.objectives == two.objectives and len(one.class_images) == len(two.class_images) == 1
    with pytest.raises(InputError, match="masked_loss twice"):
        MaskedLossNode.execute(**masked, objective=one)


def test_all_objectives_train_together(models):
    objectives = chain(PriorPreservation(), MaskedLoss(), ObjectSpecificLoss(), pools=(pool(),))
    outputs = train(models, subject=subjects(photos=photos(masked=True)), objective=objectives, batch=2)
    assert "dog class images" in outputs[6] and len(outputs[3]["loss"]) == 3


def test_other_class_images_are_another_run(models, store):
    for count in (3, 4):
        train(models, objective=chain(PriorPreservation(), pools=(pool(count=count),)))
    assert (store / "test-2").exists()


def narrow(**changes) -> TrainingOptions:
    return TrainingOptions(adapter=AdapterConfig(**changes))


REFUSED = {
    "steps": ({"steps": -1}, "steps: got -1, expected 1 or more"),
    "rank": ({"options": narrow(rank=65)}, "rank: got 65, expected at most 32"),
    "targets": ({"options": narrow(targets="nothing")}, "target_pattern: got 'nothing', which matches no"),
    "run name": ({"run_name": "../x"}, "run_name: got '../x', expected one folder name"),
    "resolution": ({"resolution": 100}, "resolution: got 100, expected a multiple of 8"),
    "no masks": ({"objective": chain(MaskedLoss())}, "masks: got no mask for photo 1"),
    "no prior": ({"objective": chain(PriorPreservation(), pools=(pool("cat"),))},
                 "prior: got no class images of 'dog'"),
    "prior of another size": ({"objective": chain(PriorPreservation(), pools=(pool(size=128),))}, "class images: got"),
    "no clip": ({"clip": None}, "clip: got nothing, expected the CLIP"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_a_model_is_loaded_or_a_folder_made(models, store, monkeypatch, case):
    changes, message = REFUSED[case]
    monkeypatch.setattr(comfy.model_management, "load_models_gpu", lambda *_, **__: pytest.fail("loaded"))
    monkeypatch.setattr(models[2], "encode", lambda _: pytest.fail("encoded"))
    with pytest.raises(InputError) as error:
        train(models, **changes)
    assert str(error.value).startswith(message) and not store.exists()


def warnings(*objectives) -> list[str]:
    config = TrainingConfig(steps=1, objectives=objectives)
    masked = subjects(photos=photos(masked=True))
    return warnings_about_own_masks(Request(model=None, clip=None, vae=None, subjects=masked, config=config,
                                            run_name="test"))


def test_masks_that_no_objective_uses_are_warned_about():
    (warning,) = warnings(PriorPreservation())
    assert "a masked loss would" in warning
    assert warnings(MaskedLoss()) == []


def test_an_object_term_without_the_whole_image_is_warned_about():
    (warning,) = warnings(MaskedLoss(background_weight=0.0), ObjectSpecificLoss())
    assert "background weight of 0" in warning
    assert warnings(MaskedLoss(background_weight=1.0), ObjectSpecificLoss()) == []

"""Open noise levels follow the recipe of the loaded model before a key is made; old graphs are as they were."""

from __future__ import annotations

import pytest
from families import family_models
from run_node import run_node
from sample_graphs import request
from tiny_model import tiny_models
from trainer_rig import subjects, train

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.objectives import LossWeighting
from comfyui_personalize.core.training.config import TrainingConfig
from comfyui_personalize.nodes.bridge.sockets import ObjectiveChain
from comfyui_personalize.nodes.bridge.training.plan import make_plan
from comfyui_personalize.nodes.bridge.training.recipe_levels import with_recipe_levels
from comfyui_personalize.nodes.loss_weighting import LossWeightingNode

pytestmark = pytest.mark.usefixtures("inference_mode", "store", "own_recipe")
WIDGETS = {"weighting": "native", "snr_gamma": 5.0, "loss": "squared", "huber_c": 0.1, "noise_offset": 0.0,
           "logit_mean": 0.0, "logit_std": 1.0}
OPEN = ObjectiveChain(objectives=(LossWeighting(levels="auto"),))


@pytest.fixture(scope="module")
def flux():
    return family_models("flux")


def settled(model, resolution, *objectives):
    config = TrainingConfig(steps=1, resolution=resolution, objectives=objectives)
    return with_recipe_levels(config, model).objectives


def test_flux_is_trained_at_the_sigmoid_of_a_normal_shifted_by_resolution(flux):
    open_levels = LossWeighting(levels="auto", weighting="min_snr")
    (at_256,), (at_1024,) = (settled(flux[0], size, open_levels) for size in (256, 1024))
    assert (at_256.levels, at_1024.levels, at_256.weighting) == ("logit_normal", "logit_normal", "min_snr")
    assert (at_256.shift, at_1024.shift) == (pytest.approx(1.6487), pytest.approx(3.1582))


def test_a_value_of_ones_own_wins(flux):
    given = LossWeighting(levels="clean")
    assert settled(flux[0], 512, given) == (given,) and settled(flux[0], 512) == ()
    assert settled(flux[0], 512, LossWeighting(levels="auto", shift=2.0))[0].shift == 2.0


def test_an_automatic_learning_rate_brings_the_noise_levels_that_it_was_found_at(flux):
    def levels(model, *objectives):
        config = TrainingConfig(steps=1, resolution=256, objectives=objectives)
        return with_recipe_levels(config, model, is_automatic=True).objectives

    (found,) = levels(flux[0])
    assert (found.levels, found.shift) == ("logit_normal", pytest.approx(1.6487))
    assert levels(flux[0], LossWeighting()) == (LossWeighting(),)
    assert levels(tiny_models()[0]) == ()  # uniform, as without: the same run


def test_a_graph_of_before_keeps_its_key_and_its_levels():
    made = run_node(LossWeightingNode, **WIDGETS, levels="uniform")[0]  # as saved graphs and the API give it
    assert made.objectives == (LossWeighting(),)
    assert run_node(LossWeightingNode, **WIDGETS, levels="logit_normal")[0].objectives[0].to_dict().keys() \
        == LossWeighting().to_dict().keys()


def test_open_levels_of_a_family_that_is_trained_uniformly_are_the_plain_run():
    models = tiny_models()
    plain = make_plan(request(models, objective=ObjectiveChain(objectives=(LossWeighting(),))), ()).key
    config = with_recipe_levels(request(models, objective=OPEN).config, models[0])
    assert config.objectives == (LossWeighting(),)
    first, second = train(models, objective=OPEN, steps=2), train(models, objective=ObjectiveChain(
        objectives=(LossWeighting(),)), steps=2)
    assert second[3] == first[3] and "nothing to train" in second[6]
    assert plain == make_plan(request(models, objective=ObjectiveChain(objectives=config.objectives)), ()).key


def test_the_report_tells_the_recipes_levels_and_captions_beside_yours(own_recipe):
    models = tiny_models()
    own_recipe(shift={"64": 3}, timestep_sampling="logit_normal", captions="tags")
    told = train(models, steps=1, subject=subjects())[6]
    assert ("noise levels of mine: logit_normal, shift 3; yours are uniform: Loss Weighting with levels auto trains on "
            "the recipe's") in told
    assert "captions of mine: tags between commas, the subject first; yours begin with 'a sks dog'" in told
    told = train(models, steps=1, objective=OPEN)[6]
    assert "noise levels of mine: logit_normal, shift 3; yours are the same" in told


def test_a_recipe_of_ones_own_that_cannot_be_used_is_refused_where_it_is_asked_for(own_recipe):
    own_recipe(rank=0)
    with pytest.raises(InputError, match="mine.json"):
        settled(tiny_models()[0], 64, LossWeighting(levels="auto"))

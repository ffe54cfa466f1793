"""Weights mean the same in every prediction space, and are those of diffusers where diffusers has them."""

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_density_for_timestep_sampling, compute_snr
from tiny_unet import TinyDenoiser, photos, same_bits, schedule, trainer, training_config, training_data

from comfyui_personalize.core.data.examples import generator_for
from comfyui_personalize.core.data.noise import NoiseSource
from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.model.schedule import NoiseSchedule
from comfyui_personalize.core.objectives import (
    LossWeighting,
    MaskedLoss,
    ObjectSpecificLoss,
    PriorPreservation,
    objectives_from_dicts,
)

PREDICTIONS = ("epsilon", "v_prediction", "flow")
INDEX = torch.tensor([0, 1, 250, 500, 900, 999])
EVERYTHING = (PriorPreservation(), MaskedLoss(), ObjectSpecificLoss())


def errors(prediction):
    """A wrong prediction's squared error as the network puts it out, in noise space, and in latent space."""
    table = schedule(prediction)
    alpha, sigma = (values[INDEX].double().view(-1, 1, 1, 1) for values in (table.alphas, table.sigmas))
    latents, noise, mistake = torch.randn(3, 6, 2, 4, 4, dtype=torch.float64, generator=generator_for(0, "e", 0))
    noisy = alpha * latents + sigma * noise
    if prediction == "epsilon":
        output = noise + mistake
        predicted_noise, predicted_latents, target = output, (noisy - sigma * output) / alpha, noise
    elif prediction == "v_prediction":
        target = alpha * noise - sigma * latents
        output = target + mistake
        predicted_noise, predicted_latents = sigma * noisy + alpha * output, alpha * noisy - sigma * output
    else:
        target = noise - latents
        output = target + mistake
        predicted_latents = noisy - sigma * output
        predicted_noise = noisy + (1 - sigma) * output
    pairs = ((output, target), (predicted_noise, noise), (predicted_latents, latents))
    return table, *((one - other).square().mean(dim=(1, 2, 3)) for one, other in pairs)


def weight(table, **options):
    return LossWeighting(**options).row_weight(table, INDEX)


def snr(table):
    return (table.alphas[INDEX].double() / table.sigmas[INDEX].double()) ** 2


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_epsilon_weighting_is_the_error_in_noise_space(prediction):
    table, own, in_noise, _ = errors(prediction)
    torch.testing.assert_close(weight(table, weighting="epsilon") * own, in_noise, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_min_snr_is_the_clamped_snr_times_the_error_in_latent_space(prediction):
    table, own, _, in_latents = errors(prediction)
    expected = snr(table).clamp(max=5) * in_latents
    torch.testing.assert_close(weight(table, weighting="min_snr") * own, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_debiased_is_the_error_in_noise_space_over_the_root_of_the_snr(prediction):
    table, own, in_noise, _ = errors(prediction)
    expected = in_noise / snr(table).sqrt().clamp(min=1 / 100)
    torch.testing.assert_close(weight(table, weighting="debiased")[:5] * own[:5], expected[:5], rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_min_snr_is_that_of_diffusers(prediction):
    theirs = compute_snr(DDPMScheduler(beta_schedule="scaled_linear"), INDEX)
    clamped = torch.stack([theirs, torch.full_like(theirs, 5.0)], dim=1).min(dim=1)[0]  # as in diffusers' examples
    expected = clamped / theirs if prediction == "epsilon" else clamped / (theirs + 1)
    ours = weight(schedule(prediction), weighting="min_snr")
    torch.testing.assert_close(ours.float(), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("weighting", ["min_snr", "debiased", "epsilon"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_weights_are_finite_at_a_terminal_snr_of_zero(weighting, prediction):
    table = NoiseSchedule(prediction=prediction, alphas=torch.tensor([1.0, 0.5, 0.0]),
                          sigmas=torch.tensor([0.0, 0.75**0.5, 1.0]), timesteps=torch.arange(3.0))
    weights = LossWeighting(weighting=weighting).row_weight(table, torch.arange(3))
    assert bool(weights.isfinite().all()) and bool((weights >= 0).all())


def test_the_pseudo_huber_distance_is_quadratic_then_linear():
    prediction, target = torch.randn(2, 1, 4, 8, 8, generator=generator_for(0, "h", 0))
    index = torch.zeros(1)

    def distance(c):
        return LossWeighting(loss="huber", huber_c=c).distance(schedule())(prediction, target, index)

    d = prediction - target
    torch.testing.assert_close(distance(0.1), 0.2 * ((d**2 + 0.01).sqrt() - 0.1))
    torch.testing.assert_close(distance(30.0), d**2, rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(distance(1e-4), 2e-4 * d.abs(), rtol=2e-2, atol=1e-7)


def test_a_noise_offset_is_one_number_per_row_and_channel():
    shaped = LossWeighting(noise_offset=0.5).shape_noise(torch.zeros(400, 4, 3, 3), generator_for(0, "n", 0))
    assert torch.equal(shaped, shaped[..., :1, :1].expand_as(shaped))
    assert shaped[..., 0, 0].std() == pytest.approx(0.5, rel=0.05)


def drawn(**options):
    source = NoiseSource(schedule("flow"), [LossWeighting(**options)])
    return source.levels(4000, generator_for(0, "levels", 0))


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-0.5, 0.7)])
def test_logit_normal_levels_are_those_of_diffusers(mean, std):
    density = compute_density_for_timestep_sampling("logit_normal", 4000, mean, std,
                                                    generator=generator_for(0, "levels", 0))
    assert torch.equal(drawn(levels="logit_normal", logit_mean=mean, logit_std=std), (density * 1000).long())


def test_cubic_levels_have_the_cube_root_as_their_distribution():
    for share in (0.1, 0.5, 0.9):
        assert (drawn(levels="clean") < share * 1000).float().mean() == pytest.approx(share ** (1 / 3), abs=0.03)
        assert (drawn(levels="noisy") >= (1 - share) * 1000).float().mean() == pytest.approx(share ** (1 / 3), abs=0.03)


@pytest.mark.parametrize("levels", ["uniform", "logit_normal", "noisy", "clean"])
def test_levels_are_within_the_schedule(levels):
    index = drawn(levels=levels, logit_std=30.0)
    assert index.dtype == torch.long and index.min() >= 0 and index.max() < 1000


@pytest.mark.parametrize("shift", [1.0, 3.0, 0.5])
def test_a_shift_of_a_flow_is_of_the_noise_level_itself_whatever_the_models_table_is_shifted_by(shift):
    times = torch.arange(1, 1001) / 1000
    shares = torch.sigmoid(torch.randn(500, generator=generator_for(0, "levels", 0)))
    expected = shift * shares / (1 + (shift - 1) * shares)
    for table_shift in (1.0, 6.0):
        sigmas = table_shift * times / (1 + (table_shift - 1) * times)
        table = NoiseSchedule.rectified_flow(sigmas, sigmas)
        objective = LossWeighting(levels="logit_normal", shift=shift)
        index = objective.draw_levels(table, 500, generator_for(0, "levels", 0))
        nearest = (sigmas[None] - expected[:, None]).abs().amin(1)
        torch.testing.assert_close((sigmas[index] - expected).abs(), nearest, rtol=0, atol=1e-6)


def test_a_shift_of_other_schedules_is_of_the_share_of_all_levels():
    index = LossWeighting(levels="uniform", shift=3.0).draw_levels(schedule("epsilon"), 500, generator_for(0, "u", 0))
    shares = torch.rand(500, generator=generator_for(0, "u", 0))
    assert torch.equal(index, (3 * shares / (1 + 2 * shares) * 1000).long())


def test_open_levels_become_the_recipes_and_a_value_of_ones_own_stays():
    open_levels = LossWeighting(levels="auto")
    assert open_levels.settled("logit_normal", 3.0) == LossWeighting(levels="logit_normal", shift=3.0)
    assert LossWeighting(levels="auto", shift=2.0).settled("logit_normal", 3.0).shift == 2.0
    assert LossWeighting(levels="noisy").settled("logit_normal", 3.0) == LossWeighting(levels="noisy")
    assert open_levels.settled("uniform", 0.0).to_dict() == LossWeighting().to_dict()
    assert "shift" not in LossWeighting().to_dict() and LossWeighting(shift=1.0).to_dict()["shift"] == 1.0
    with pytest.raises(ValueError, match="settled"):
        open_levels.draw_levels(schedule("flow"), 1, generator_for(0, "levels", 0))
    with pytest.raises(InputError, match="shift"):
        LossWeighting(shift=-1.0)


def state_after(objectives):
    data = training_data(photos(mask=torch.ones(1, 8, 8)))
    with trainer(training_config(steps=2, objectives=objectives), data) as run:
        list(run.steps())
        return run.state()


def test_the_defaults_change_no_bit():
    first, second = state_after(EVERYTHING), state_after((*EVERYTHING, LossWeighting()))
    assert same_bits(first[0], second[0]) and first[1]["losses"] == second[1]["losses"]


def test_every_row_of_every_block_is_weighed():
    data, options = training_data(photos(mask=torch.ones(1, 8, 8))), LossWeighting(weighting="min_snr")
    config = training_config(steps=1, objectives=(*EVERYTHING, options), max_grad_norm=0)
    with trainer(config, data) as run:
        blocks = run._draw_rows(0)
        with torch.no_grad():
            predictions = run._predict(blocks)
        step = next(run.steps())
    for name, rows in blocks.items():
        weights = options.row_weight(run.denoiser.schedule, rows.index)
        singles = [(prediction - noise).square().mean() * row_weight
                   for prediction, noise, row_weight in zip(predictions[name], rows.noise, weights, strict=True)]
        assert step.terms[name] == pytest.approx(float(sum(singles)) / len(rows), rel=1e-4)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("options", [
    {"weighting": "epsilon"}, {"weighting": "min_snr"}, {"weighting": "debiased"}, {"loss": "huber"},
    {"noise_offset": 0.1}, {"levels": "logit_normal"}, {"levels": "noisy"}, {"levels": "clean"}], ids=str)
@pytest.mark.full
def test_every_choice_trains_in_every_prediction_space(prediction, options):
    config = training_config(steps=2, objectives=[LossWeighting(**options)])
    with trainer(config, denoiser=TinyDenoiser(prediction)) as run:
        assert all(torch.tensor(step.loss).isfinite() for step in run.steps())


def test_the_config_survives_metadata():
    weighting = LossWeighting(weighting="debiased", loss="huber", huber_c=0.3, levels="noisy", noise_offset=0.05)
    assert objectives_from_dicts([weighting.to_dict()]) == (weighting,)


@pytest.mark.parametrize(("options", "message"), [
    ({"weighting": "min-snr"}, "weighting: got 'min-snr', expected one of native"),
    ({"loss": "l1"}, "loss: got 'l1'"), ({"levels": "late"}, "levels: got 'late'"),
    ({"snr_gamma": 0}, "snr_gamma: got 0"), ({"huber_c": -1}, "huber_c"), ({"noise_offset": 2}, "noise_offset: got 2"),
])
def test_settings_that_cannot_work_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        LossWeighting(**options)

"""DCI under every sampler of ComfyUI: finite pictures, rows as the noise levels say, noise that DCI leaves alone."""

from __future__ import annotations

from types import SimpleNamespace

import comfy.sample
import comfy.samplers
import pytest
import torch
from comfy.k_diffusion import sampling as k_diffusion
from dci_rig import PROMPT, apply_dci, assert_close, empty_latent, encode, ksample, without_mixing

from comfyui_personalize.core.dci.config import DCIConfig
from comfyui_personalize.nodes.bridge.dci.branch_noise import auxiliary_seed, with_branch_noise

SAMPLERS = comfy.samplers.KSampler.SAMPLERS
STEPS = 4
# Its steps depend on the error of all rows together, so the auxiliary rows change them.
ADAPTIVE = {"dpm_adaptive"}


@pytest.fixture(scope="module")
def plain(tiny):
    return tiny[0], encode(tiny[1], PROMPT), encode(tiny[1], "")


@pytest.fixture(scope="module")
def dual(tiny, plain):
    return (*apply_dci(*tiny), plain[2])


def unmixed(tiny, plain, sampler, latent, options=None):
    """A run with DCI whose branches do not meet."""
    model, positive = apply_dci(*tiny, options=options)
    return ksample(without_mixing(model), positive, plain[2], latent, sampler_name=sampler, steps=STEPS)


def evaluations(graph, sampler, rows):
    """Rows and timestep of every network call."""
    calls = []
    handle = graph[0].model.diffusion_model.register_forward_pre_hook(
        lambda _, inputs: calls.append((inputs[0].shape[0], float(inputs[1][0]))))
    try:
        out = ksample(*graph, empty_latent(rows), sampler_name=sampler, steps=STEPS)
    finally:
        handle.remove()
    return out, calls


@pytest.mark.full
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_gives_finite_pictures_from_as_many_rows_as_its_noise_levels_say(plain, dual, sampler):
    rows = 2
    _, without = evaluations(plain, sampler, rows)
    out, calls = evaluations(dual, sampler, rows)
    assert out.shape == (rows, 4, 8, 8) and out.isfinite().all()
    in_window = sum(count // (2 * rows) for count, timestep in without if timestep > 0.7 * 999)
    total = sum(count for count, _ in calls)
    if sampler not in ADAPTIVE:
        assert in_window > 0 and total == sum(count for count, _ in without) + rows * in_window


@pytest.mark.full
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_at_window_zero_is_plain_sampling(tiny, plain, sampler):
    model, positive = apply_dci(*tiny, window=0.0)
    assert torch.equal(ksample(model, positive, plain[2], sampler_name=sampler, steps=STEPS),
                       ksample(*plain, sampler_name=sampler, steps=STEPS))


SOME = ["euler_ancestral", "dpmpp_2m_sde", "lcm"]


@pytest.mark.parametrize("sampler", [
    pytest.param(name, marks=() if name in SOME else pytest.mark.full) for name in SAMPLERS if name not in ADAPTIVE])
def test_branches_that_do_not_meet_leave_the_picture_as_it_is_without_dci(tiny, plain, sampler):
    """At a size whose numbers are no multiple of 16, where the first half of a draw of 2 B rows is not a draw of B."""
    latent = {"samples": torch.zeros(1, 4, 7, 9)}
    expected = ksample(*plain, latent, sampler_name=sampler, steps=STEPS)
    assert_close(unmixed(tiny, plain, sampler, latent), expected, 1e-3)


@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_ddim_noises_what_a_mask_keeps_as_it_does_without_dci(tiny, plain, size):
    """Of 7 x 9 numbers the last 16 of a draw of B rows are not those of a draw of 2 B rows."""
    generator = torch.Generator().manual_seed(5)
    latent = {"samples": torch.randn(1, 4, *size, generator=generator),
              "noise_mask": torch.rand(1, 1, *size, generator=generator).round()}
    expected = ksample(*plain, latent, steps=STEPS)
    assert_close(unmixed(tiny, plain, "ddim", latent), expected, 1e-3)
    if size == (7, 9):
        other = unmixed(tiny, plain, "ddim", latent, DCIConfig(seed_exact=False))
        assert (other - expected).abs().max() > 0.01 * expected.std()


@pytest.mark.parametrize("seed", [7, 2**64 - 2])
def test_mask_noise_of_the_auxiliary_rows_is_their_own_or_shared(seed):
    rows, model = torch.zeros(1, 4, 7, 9), SimpleNamespace(noise=None)
    for kind in ("independent", "shared"):
        sampler = comfy.samplers.sampler_object("ddim")
        sampler.sampler_function = lambda model, *_: model.noise
        noise = with_branch_noise(sampler, rows, torch.tensor([1.0, 0.0]), seed,
                                  DCIConfig(auxiliary_noise=kind)).sampler_function(model)
        assert noise.shape == (2, 4, 7, 9) and torch.equal(noise[0], noise[1]) == (kind == "shared")


def test_without_seed_exact_an_ancestral_sampler_draws_other_noise(tiny, plain):
    latent = empty_latent()
    expected = ksample(*plain, latent, sampler_name="euler_ancestral", steps=STEPS)
    other = unmixed(tiny, plain, "euler_ancestral", latent, DCIConfig(seed_exact=False))
    assert (other - expected).abs().max() > 0.1 * expected.std()


@pytest.mark.parametrize("name", ["euler_ancestral", "dpmpp_sde"])
@pytest.mark.parametrize("kind", ["independent", "shared"])
def test_step_noise_of_the_auxiliary_rows_is_their_own_or_shared(name, kind):
    rows = torch.zeros(2, 4, 16, 16)
    sigmas = torch.tensor([14.0, 5.0, 1.0, 0.0])
    sampler = with_branch_noise(comfy.samplers.sampler_object(name), rows, sigmas, 7, DCIConfig(auxiliary_noise=kind))
    draw = sampler.extra_options["noise_sampler"]
    noise = draw(sigmas[0], sigmas[1])
    concept, auxiliary = noise[:2], noise[2:]
    if name == "euler_ancestral":
        assert torch.equal(concept, k_diffusion.default_noise_sampler(rows, seed=7)(0, 0))
    assert torch.equal(concept, auxiliary) == (kind == "shared")
    if kind == "independent":
        assert abs((concept * auxiliary).mean()) < 0.1 and abs(auxiliary.std() - 1) < 0.1
        assert not torch.equal(draw(sigmas[1], sigmas[2])[2:], auxiliary)


def test_seeds_of_the_auxiliary_rows_differ_from_the_runs():
    seeds = [auxiliary_seed(seed) for seed in (0, 1, 2**64 - 1)]
    assert len({*seeds, 0, 1}) == 5 and all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("name", ["euler", "dpm_adaptive", "uni_pc"])
def test_samplers_without_noise_of_their_own_are_left_alone(name):
    sampler = comfy.samplers.sampler_object(name)
    rows = torch.zeros(1, 4, 8, 8)
    assert with_branch_noise(sampler, rows, torch.tensor([1.0, 0.0]), 7, DCIConfig()) is sampler

"""T-LoRA: of a LoRA's ranks the first r(t) act, for every row by its own timestep."""

import json

import pytest
import torch
from base_predictions import learned
from tiny_unet import TinyDenoiser, photos, same_bits, schedule, trainer, training_config
from torch import nn

from comfyui_personalize.core.data.batch import Rows
from comfyui_personalize.core.data.examples import TrainingData, generator_for
from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.learning.adapter import (
    KINDS,
    Adapter,
    AdapterConfig,
    RankByTimestep,
    active_ranks,
    remaining_time,
)
from comfyui_personalize.core.objectives import BasePrior
from comfyui_personalize.core.training.config import TrainingConfig, TrainingOptions

RANK, LEAST = 4, 1
DATA = TrainingData(examples=photos())


def ranks_at(timesteps, rank=64, least=32):
    return active_ranks(rank, least, remaining_time(schedule(), torch.tensor(timesteps))).tolist()


def test_the_whole_rank_acts_at_no_noise_and_the_least_at_the_most():
    assert ranks_at([0, 250, 500, 750, 999]) == [64, 56, 48, 40, 32]
    assert ranks_at([0, 999], rank=8, least=0) == [8, 0]


@pytest.mark.parametrize("rank", [5, 16, 100])
def test_ranks_are_the_papers_floor_in_whole_numbers(rank):
    every = list(range(1000))
    assert ranks_at(every, rank, 1) == [(rank - 1) * (1000 - t) // 1000 + 1 for t in every]


def test_a_layer_of_a_smaller_rank_than_the_least_keeps_its_own():
    assert ranks_at([0, 999], rank=4, least=32) == [4, 4]


def test_for_flow_the_time_is_the_noise_level_however_the_schedule_is_shifted():
    flow = schedule("flow")
    shifted = type(flow).rectified_flow(3 * flow.sigmas / (1 + 2 * flow.sigmas), flow.timesteps)
    index = torch.tensor([0, 499, 999])
    torch.testing.assert_close(remaining_time(shifted, index), 1 - shifted.sigmas[index].double())


class Network(nn.Module):
    """A linear layer and a convolution, called as denoisers are."""

    def __init__(self):
        super().__init__()
        self.attn = nn.Linear(6, 6)
        self.conv = nn.Conv2d(6, 5, 3, padding=1)

    def forward(self, x, timesteps, context=None):
        tokens = self.attn(x.flatten(2).transpose(1, 2)).transpose(1, 2)
        return self.conv(tokens.view_as(x))


def masked_network(kind="lora", least=LEAST):
    torch.manual_seed(0)
    network = Network()
    adapter = Adapter(network, AdapterConfig(kind=kind, rank=RANK, alpha=2.0, targets="all"), 0)
    with torch.no_grad():
        for number, parameter in enumerate(adapter.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=generator_for(0, "adapter", number)))
    ranks = RankByTimestep(network, adapter.layers, least, schedule())
    ranks.inject()
    return network, adapter, ranks


def truncated(network, adapter, ranks, rank, x):
    """What the network gives whose LoRA has only its first ranks, without masks."""
    ranks.eject()
    whole = adapter.state_dict()
    cut = {name: value.clone() for name, value in whole.items()}
    for name, value in cut.items():
        (value if "lora_A" in name else value.transpose(0, 1))[rank:] = 0
    adapter.load_state_dict(cut)
    got = network(x, torch.zeros(len(x)))
    adapter.load_state_dict(whole)
    ranks.inject()
    return got


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.can_mask_rank])
def test_in_a_mixed_batch_every_row_has_its_own_rank(kind):
    network, adapter, ranks = masked_network(kind)
    x = torch.randn(4, 6, 3, 3)
    timesteps = torch.tensor([0, 300, 600, 999])
    expected = ranks_at(timesteps.tolist(), RANK, LEAST)
    assert expected == [4, 3, 2, 1]
    with torch.no_grad():
        got = network(x, timesteps)
        for row, rank in enumerate(expected):
            alone = truncated(network, adapter, ranks, rank, x[row:row + 1])
            torch.testing.assert_close(got[row:row + 1], alone, atol=1e-5, rtol=1e-5)


def test_ranks_that_do_not_act_get_no_gradient():
    network, adapter, _ = masked_network()
    network(torch.randn(2, 6, 3, 3), torch.tensor([999, 600])).square().sum().backward()
    for layer in adapter.layers:
        down = layer.lora_A["default"].weight.grad
        assert bool((down[:2] != 0).any()) and bool((down[2:] == 0).all())


def test_taken_out_nothing_is_masked_and_nothing_stays_on_the_network():
    network, adapter, ranks = masked_network()
    x = torch.randn(1, 6, 3, 3)
    with torch.no_grad():
        masked = network(x, torch.tensor([999]))
        ranks.eject()
        whole = network(x, torch.tensor([999]))
        assert not torch.allclose(masked, whole)
    assert not network._forward_hooks and not network._forward_pre_hooks
    assert not any(layer.lora_A["default"]._forward_hooks for layer in adapter.layers)


def test_a_layer_that_does_not_see_rows_by_themselves_is_refused():
    network, _, _ = masked_network()
    network.attn.lora_A["default"].register_forward_pre_hook(lambda _, inputs: (inputs[0].flatten(0, 1),))
    with pytest.raises(InputError, match="min_rank: got a layer that sees 18 rows where 2 are denoised"):
        network(torch.randn(2, 6, 3, 3), torch.tensor([0, 999]))


def test_timesteps_told_by_frame_are_the_first_frames():
    network, _, _ = masked_network()
    x, timesteps = torch.randn(2, 6, 3, 3), torch.tensor([0, 999])
    with torch.no_grad():
        assert torch.equal(network(x, timesteps[:, None].expand(2, 3)), network(x, timesteps))


def test_a_network_that_is_told_other_timesteps_than_its_schedules_is_refused():
    network, _, _ = masked_network()
    with pytest.raises(InputError, match="min_rank: got Network, which is told other timesteps"):
        network(torch.randn(2, 6, 3, 3), torch.tensor([0, 9990]))
    assert network._forward_hooks


# In a run


def run_of(**options):
    return training_config(rank=RANK, batch=2, **{"min_rank": LEAST, **options})


def first_gradients(config, **others):
    with trainer(config, DATA, **others) as run:
        learned(run)
        step = next(run.steps())
        return step, [parameter.grad.clone() for parameter in run.updates.parameters()]


def test_a_runs_loss_is_that_of_its_rows_alone():
    with trainer(run_of(max_grad_norm=0), DATA) as run:
        learned(run)
        rows = run._draw_rows(0)["subject"]
        assert len(set(active_ranks(RANK, LEAST, remaining_time(run.denoiser.schedule, rows.index)).tolist())) > 1
        losses = []
        for row in range(2):
            one = {part: getattr(rows, part)[row:row + 1] for part in ("latents", "noise", "index")}
            with torch.no_grad():
                prediction = run._denoise(Rows(**one, prompts=rows.prompts[:1]), run._text.rows(rows.prompts[:1]))
            losses.append((prediction - one["noise"]).square().mean())
        assert next(run.steps()).loss == pytest.approx(float(torch.stack(losses).mean()), rel=1e-5)


def test_checkpointed_blocks_are_recomputed_at_the_same_timesteps():
    plain, expected = first_gradients(run_of(gradient_checkpointing="off"))
    again, got = first_gradients(run_of(gradient_checkpointing="on"))
    assert again.loss == plain.loss
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_base_predictions_are_the_untouched_networks():
    objectives = [BasePrior()]
    with trainer(training_config(rank=RANK, objectives=objectives, min_rank=LEAST), DATA) as run:
        step = next(run.steps())
        run.eject()
        assert not run.denoiser.module._forward_hooks
    assert step.terms["base_prior"] == pytest.approx(0, abs=1e-9)


def test_with_and_without_it_are_two_runs_and_the_old_ones_key_stays():
    plain, masked = (TrainingConfig(steps=9, options=TrainingOptions(min_rank=number)) for number in (0, 8))
    assert "min_rank" not in plain.key_fields()["options"]
    assert masked.key_fields()["options"]["min_rank"] == 8
    saved = json.loads(json.dumps(plain.to_dict()))
    del saved["options"]["min_rank"]
    assert TrainingConfig.from_dict(saved) == plain


def test_a_run_that_was_stopped_goes_on_exactly():
    with trainer(run_of(steps=4), DATA) as run:
        list(run.steps())
        whole = run.export().adapter
    with trainer(run_of(steps=2), DATA) as run:
        list(run.steps())
        state = run.state()
    with trainer(run_of(steps=4), DATA) as run:
        run.load_state(*state)
        list(run.steps())
        assert same_bits(run.export().adapter, whole)


def test_it_learns_something_else_than_the_whole_rank():
    denoiser = TinyDenoiser()
    _, masked = first_gradients(run_of(), denoiser=denoiser)
    _, whole = first_gradients(run_of(min_rank=0))
    assert not all(map(torch.allclose, masked, whole))


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if not kind.can_mask_rank])
def test_kinds_whose_rank_cannot_be_masked_are_refused(kind):
    with pytest.raises(InputError, match=f"min_rank: got 4 with the kind {kind}, expected .*lora or rslora"):
        TrainingOptions(adapter=AdapterConfig(kind=kind, rank=16), min_rank=4)

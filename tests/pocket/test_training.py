"""Training of the second model: one step of every stage, a resumed run is the uninterrupted one, one small file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from comfyui_personalize.pocket import config, stages
from comfyui_personalize.pocket.autoencoder import (
    Autoencoder,
    start_from_published,
    taesd_tensors,
    wide_state,
)
from comfyui_personalize.pocket.batches import crops, stream
from comfyui_personalize.pocket.device import find_machine
from comfyui_personalize.pocket.diffusion import (
    add_noise,
    alphas_cumprod,
    clean_estimate,
    sample,
    spread_timesteps,
    velocity,
)
from comfyui_personalize.pocket.generator import Generator, generator_batch
from comfyui_personalize.pocket.image_text_training import ImageTextEncoder
from comfyui_personalize.pocket.judge import HEADS, IGNORED, Judge, judge_batch, judge_loss
from comfyui_personalize.pocket.learner import Learner, learning_rate, row_means
from comfyui_personalize.pocket.parts import join, split
from comfyui_personalize.pocket.rows import counter_rows, full_table
from comfyui_personalize.pocket.sitting import Plan, clock, run, take_up
from comfyui_personalize.pocket.state import MAX_BYTES, freeze, is_frozen, load_state, save_state
from comfyui_personalize.pocket.taesd import Decoder
from comfyui_personalize.pocket.train import SHARES, main, shares
from comfyui_personalize.pocket.unet import UNet, cross_attentions
from comfyui_personalize.pocket.upscaler import new_upscaler

CPU = find_machine("cpu", 0)


@pytest.fixture
def small(monkeypatch):
    """Checks of eight pictures and no samples: what a stage does, not how well."""
    monkeypatch.setattr(stages, "held_out_scenes", lambda count, start=0: stages_held_out(4, start))
    monkeypatch.setattr(stages, "SAMPLE_CAPTIONS", ("a red dog",))
    monkeypatch.setattr(stages, "SAMPLE_STEPS", 2)
    monkeypatch.setattr(stages, "Generator", lambda: Generator((1, 1, 1)))
    real_judge, real_generator = stages.judge_batch, stages.generator_batch
    monkeypatch.setattr(stages, "judge_batch", lambda number, batch: real_judge(number, min(batch, 8)))
    monkeypatch.setattr(stages, "generator_batch",
                        lambda number, batch, **given: real_generator(number, min(batch, 4), **given))


stages_held_out = stages.held_out_scenes


def plan(path: Path, steps: int, batch: int = 4) -> Plan:
    return Plan(path=path, minutes=60, batch=batch, max_steps=steps)


def entries(state: dict) -> list[torch.Tensor]:
    return [*state["weights"].values(), *state["average"].values(), *state["moments"].values(),
            *state["buffers"].values()]


def test_a_resumed_run_is_the_uninterrupted_one_bit_by_bit(tmp_path):
    """Two steps and two more, in two sittings, against a run that only saves in between."""
    def sitting(path: Path, learner: Learner | None = None) -> Learner:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 32, 3, stride=8), nn.GroupNorm(8, 32), nn.SiLU(), nn.Conv2d(32, 16, 1))
        learner = learner or take_up("generator", Learner(CPU.place(network), peak=1e-3), path)

        def loss_of(batch, step):
            with CPU.autocast():
                answer = learner.network(CPU.pictures(batch.pictures))
            return (answer.float() - stages.step_noise(tuple(answer.shape), step, 5, CPU.device)[0]).square().mean()

        run("generator", learner, plan(path, 2), stream(lambda i: generator_batch(i, 4), learner.step, 0), loss_of)
        return learner

    sitting(tmp_path / "cut.state")
    sitting(tmp_path / "cut.state")
    sitting(tmp_path / "whole.state", sitting(tmp_path / "whole.state"))
    cut, whole = (load_state(tmp_path / name)["generator"] for name in ("cut.state", "whole.state"))
    assert cut["step"] == whole["step"] == 4
    assert all(torch.equal(a, b) for a, b in zip(entries(cut), entries(whole), strict=True))


def test_every_stage_takes_a_step_and_freezes_what_it_relies_on(tmp_path, small):
    path = tmp_path / "s.state"
    stages.train_autoencoder(plan(path, 1), CPU, 0.2)
    stages.train_judge(plan(path, 1, 8), CPU)
    stages.train_generator(plan(path, 1), CPU)
    stages.train_decoder(plan(path, 1), CPU)
    state = load_state(path)
    assert set(state) == {"autoencoder", "judge", "generator", "decoder"}
    assert is_frozen(path, "autoencoder") and is_frozen(path, "judge") and not is_frozen(path, "generator")
    assert list(tmp_path.glob("samples_*.png"))


def test_the_state_of_the_whole_model_fits_its_limit():
    """Two bytes a weight: once for what is frozen, twice (weights and average) for what still trains: first generator
    and decoder, at the end the upscaler alone."""
    def weights(network: nn.Module) -> int:
        return sum(p.numel() for p in network.parameters())

    autoencoder = Autoencoder()
    frozen = weights(autoencoder) + weights(Judge())
    assert 2 * frozen + 4 * (weights(Generator()) + weights(autoencoder.decoder)) < 0.98 * MAX_BYTES
    finished = frozen + weights(Generator()) + weights(autoencoder.decoder) + weights(ImageTextEncoder())
    assert 2 * finished + 4 * weights(new_upscaler()) < 0.98 * MAX_BYTES


def test_a_state_that_is_too_large_leaves_the_old_one(tmp_path):
    path = tmp_path / "s.state"
    save_state(path, generator={"step": 3})
    with pytest.raises(ValueError, match="at most 60000000"):
        save_state(path, judge=torch.zeros(16 * 10**6))
    assert load_state(path) == {"generator": {"step": 3}} and not list(tmp_path.glob("*.part"))


def test_freezing_keeps_what_use_needs(tmp_path):
    path, learner = tmp_path / "s.state", Learner(nn.Linear(2, 2), peak=1e-3)
    learner.learn(learner.network(torch.ones(1, 2)).sum())
    learner.settle()
    save_state(path, judge=learner.state())
    assert not is_frozen(path, "judge")
    freeze(path, "judge", "autoencoder")
    assert is_frozen(path, "judge") and set(load_state(path)["judge"]) == {"average", "buffers", "step"}


def test_settling_twice_changes_nothing_and_rows_share_their_second_moment():
    torch.manual_seed(0)
    learner = Learner(nn.Conv2d(2, 3, 3), peak=1e-2)
    for _ in range(3):
        learner.learn(learner.network(torch.randn(1, 2, 5, 5)).square().mean())
    learner.settle()
    before = [t.clone() for t in entries(learner.state())]
    learner.settle()
    assert all(torch.equal(a, b) for a, b in zip(before, entries(learner.state()), strict=True))
    moments = learner.optimizer.state[learner.parameters[0]]["exp_avg_sq"]
    assert torch.equal(moments, row_means(moments).expand_as(moments))


def test_the_rate_warms_up_stays_and_cools():
    assert learning_rate(1.0, 0, 100, 0.0) == pytest.approx(0.01)
    assert learning_rate(1.0, 500, 100, 0.0) == pytest.approx(1.0)
    assert learning_rate(1.0, 500, 100, 1.0) == pytest.approx(0.03)


def test_a_sitting_ends_with_its_steps_or_its_minutes(tmp_path):
    assert len(list(clock(plan(tmp_path, 7)))) == 7
    assert list(clock(Plan(path=tmp_path, minutes=0, batch=1))) == []


def test_batches_are_functions_of_their_number_with_and_without_workers():
    with_workers, alone = stream(crops_of_four, 3, 2), stream(crops_of_four, 3, 0)
    assert all(torch.equal(next(with_workers), next(alone)) for _ in range(2))
    first, again = generator_batch(5, 4), generator_batch(5, 4)
    assert torch.equal(first.pictures, again.pictures) and torch.equal(first.rows, again.rows)
    assert first.cover.shape == (4, 1, 12, 12) and 0 < first.cover.mean() < 0.5


def test_batches_go_through_pipes_where_shared_memory_is_small(monkeypatch):
    monkeypatch.setattr("comfyui_personalize.pocket.batches.SHARED_BYTES", 10**18)
    first, wanted = next(stream(batch_of_two, 3, 1)), batch_of_two(3)
    assert type(first) is type(wanted) and all(torch.equal(a, b) for a, b in zip(first, wanted, strict=True))


def batch_of_two(number: int):
    return generator_batch(number, 2)


def crops_of_four(number: int) -> torch.Tensor:
    return crops(number, 4)


def test_the_narrow_autoencoder_starts_as_the_published_one_and_widens_exactly():
    autoencoder = start_from_published(Autoencoder()).eval()
    pictures = stages.stack(stages_held_out(4)).float() / 255
    with torch.no_grad():
        code = autoencoder.encode(pictures)
        wide = Decoder(config.LATENT_CHANNELS)
        wide.load_state_dict(wide_state(autoencoder.decoder, wide))
        assert torch.allclose(wide(code), autoencoder.decoder(code), atol=1e-5)
        assert stages.psnr(autoencoder.decode(code), pictures) > 26
    assert {"first_stage_model.taesd_encoder.14.bias", "first_stage_model.vae_scale"} <= set(taesd_tensors(autoencoder))


def test_the_velocity_gives_back_the_clean_latents():
    clean, noise = torch.randn(3, 16, 4, 4), torch.randn(3, 16, 4, 4)
    abar = alphas_cumprod()[[0, 500, 999]].view(-1, 1, 1, 1)
    noisy = add_noise(clean, noise, abar)
    assert torch.allclose(clean_estimate(noisy, velocity(clean, noise, abar), abar), clean, atol=1e-4)


@pytest.mark.parametrize("eta", (0.0, 1.0))
def test_sampling_with_the_true_velocity_ends_at_the_clean_latents(eta):
    clean = torch.randn(2, 16, 12, 12)

    def denoiser(x, t, context):
        a = alphas_cumprod()[t].view(-1, 1, 1, 1)
        noise = (x - a.sqrt() * clean.repeat(2, 1, 1, 1)) / (1 - a).sqrt()
        return velocity(clean.repeat(2, 1, 1, 1), noise, a)

    found = sample(denoiser, torch.zeros(2, 77, 128), torch.zeros(1, 77, 128), steps=8, eta=eta)
    assert torch.allclose(found, clean, atol=1e-3)


def test_counter_rows_are_the_same_bits_everywhere_and_nearly_normal():
    table = counter_rows(torch.arange(2000))
    assert torch.equal(counter_rows(torch.tensor([7, 1999])), table[[7, 1999]])
    assert table[0, :3].tolist() == pytest.approx(FIRST_ROW, abs=1e-5)
    assert abs(float(table.mean())) < 0.003 and float(table.std()) == pytest.approx(0.3, rel=0.01)
    full = full_table(torch.tensor([5]), torch.ones(1, 128))
    assert full.shape == (49408, 128) and full[5].eq(1).all() and torch.equal(full[7], table[7].half())


FIRST_ROW = [-0.110901, 0.402588, 0.035614]


def test_a_forward_costs_at_most_one_and_a_half_of_the_first_models_and_attends_at_the_finest_level():
    from torch.utils.flop_counter import FlopCounterMode

    unet = UNet().eval()
    attentions = cross_attentions(unet)
    for attention in attentions:
        attention.watch = []
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        unet(torch.randn(1, 16, 12, 12), torch.tensor([5]), torch.randn(1, 77, 128))
    assert counter.get_total_flops() <= 1.5 * 0.51e9
    assert sum(attention.watch[0].shape[2] == 144 for attention in attentions) == 3


def test_a_prompt_that_serves_two_noisy_pictures_acts_as_two_equal_prompts():
    torch.manual_seed(0)
    unet = UNet((1, 1, 1))
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.normal_(std=0.1)
    x, timesteps, prompts = torch.randn(6, 16, 12, 12), torch.randint(0, 1000, (6,)), torch.randn(3, 77, 128)
    shared = unet(x, timesteps, prompts)
    torch.testing.assert_close(shared, unet(x, timesteps, prompts.repeat_interleave(2, dim=0)))
    assert (shared - unet(x, timesteps, prompts.roll(1, 0))).abs().max() > 1e-3 * shared.abs().max()


def test_timesteps_of_one_picture_lie_far_apart_and_all_of_them_are_spread_evenly():
    timesteps = spread_timesteps(8, torch.Generator().manual_seed(0), torch.device("cpu"), each=2)
    assert set((timesteps[::2] - timesteps[1::2]).abs().tolist()) == {500}
    assert set(timesteps.sort().values.diff().tolist()) == {125}


def test_the_judge_answers_every_question_and_learns():
    torch.manual_seed(0)
    batch = judge_batch(0, 16)
    learner = Learner(Judge(), peak=1e-3, warm_up=1)
    pictures = batch["pictures"].float() / 255
    losses = []
    for _ in range(5):
        losses.append(judge_loss(learner.network(pictures), batch))
        learner.learn(losses[-1])
    assert all(loss.isfinite() for loss in losses) and losses[-1] < losses[0]


def test_pairs_of_individuals_teach_the_judge_no_colour():
    colours = judge_batch(0, 16)["colour"]
    assert (colours[8:] == IGNORED).all() and (colours[:8] != IGNORED).any()


def test_a_judge_that_looks_everywhere_places_every_thing_in_the_middle():
    judge = Judge()
    for parameter in judge.where.parameters():
        torch.nn.init.zeros_(parameter)
    found = judge(torch.rand(2, 3, 96, 96))
    assert torch.allclose(found["place"], torch.full((2, 10, 2), 0.5), atol=1e-5)
    assert torch.equal(found["colour"], found["colour"][:, :1].expand(-1, 10, -1))  # one head for all nouns


def test_the_usual_answers_alone_count_for_nothing():
    batch = judge_batch(10**5, 32)
    usual = {name: torch.zeros(32, *shape) for name, shape in HEADS.items()}  # none, bare, in the studio, a photo
    usual["colour"][..., -1] = 1
    said = stages.accuracy(usual | {"identity": torch.eye(32)}, batch)
    assert said.startswith("count 0.000, colour 0.000, accessory 0.000, context ") and ", style 0.000, " in said


def test_parts_join_to_the_same_bytes_and_a_missing_part_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr("comfyui_personalize.pocket.parts.PART_BYTES", 1000)
    file = tmp_path / "x.state"
    file.write_bytes(np.random.default_rng(0).bytes(2500))
    parts = split(file, tmp_path / "out")
    join(tmp_path / "out", tmp_path / "y.state")
    assert len(parts) == 3 and (tmp_path / "y.state").read_bytes() == file.read_bytes()
    parts[1].unlink()
    with pytest.raises(ValueError, match="another digest"):
        join(tmp_path / "out", tmp_path / "y.state")


def test_what_is_frozen_leaves_its_time_to_the_other_stages(tmp_path):
    path = tmp_path / "s.state"
    assert shares(path) == pytest.approx(SHARES)
    learner = Learner(nn.Linear(2, 2), peak=1e-3)
    save_state(path, autoencoder=learner.state(), generator=learner.state())
    freeze(path, "autoencoder")
    left = shares(path)
    assert list(left) == ["judge", "generator", "decoder", "encoder", "upscaler"]
    assert sum(left.values()) == pytest.approx(1)
    with pytest.raises(SystemExit, match="not frozen"):
        main(["--stage", "autoencoder", "--state", str(path), "--device", "cpu"])


def test_taking_up_nothing_changes_nothing(tmp_path):
    learner = Learner(nn.Linear(2, 2), peak=1e-3)
    assert take_up("judge", learner, tmp_path / "none.state").step == 0

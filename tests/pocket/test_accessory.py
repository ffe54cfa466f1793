"""The hat judge tells a subject with a hat from the same without."""

from __future__ import annotations

import pytest
import torch

from comfyui_personalize.pocket.accessory import ACCESSORY_FILE, HatJudge, hat_pairs, load_hat_judge, train_steps
from comfyui_personalize.pocket.judge import Views, to_judge_size
from comfyui_personalize.pocket.world import render, subject


def test_it_has_one_answer_per_picture_whatever_the_batch():
    judge, pictures = HatJudge().eval(), torch.rand(3, 3, 64, 64)
    answers = judge(pictures)
    assert answers.shape == (3,)
    torch.testing.assert_close(answers[1:2], judge(pictures[1:2]))


def test_a_pair_differs_in_nothing_but_the_hat():
    bare, hatted = hat_pairs([subject(700)], 5)
    assert (bare.has_hat, hatted.has_hat) == (False, True)
    assert (bare.look, bare.context, bare.seed) == (hatted.look, hatted.context, hatted.seed)


def test_training_lowers_the_loss():
    torch.manual_seed(0)
    pictures = torch.zeros(32, 2, 3, 64, 64, dtype=torch.uint8)
    pictures[:, 1, :, 8:20, 20:44] = 200
    views = Views(pictures, torch.tensor([0, 1]).repeat(32, 1)[..., None])
    losses = list(train_steps(HatJudge(), views, epochs=8))
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.skipif(not ACCESSORY_FILE.exists(), reason="pocket/judge/accessory.safetensors is missing")
def test_the_frozen_network_is_right_on_held_out_subjects():
    scenes = hat_pairs([subject(number) for number in range(800, 830)], 10**9 + 500)
    pictures = torch.stack([torch.from_numpy(render(scene)[0].copy()) for scene in scenes]).movedim(-1, 1) / 255
    answers = load_hat_judge()(to_judge_size(pictures)) > 0
    assert float((answers == torch.tensor([scene.has_hat for scene in scenes])).float().mean()) > 0.9
    assert ACCESSORY_FILE.stat().st_size < 200_000

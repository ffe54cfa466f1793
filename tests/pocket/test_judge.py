"""The judge answers four questions about a picture."""

from __future__ import annotations

import math

import pytest
import torch

from comfyui_personalize.pocket.judge import (
    EMBEDDING,
    JUDGE_FILE,
    Judge,
    accuracy,
    contrastive_loss,
    labels_of,
    load_judge,
    scene_of,
)
from comfyui_personalize.pocket.world import SEEDS, render, subject, training_scene
from comfyui_personalize.pocket.world_paint import COLOURS
from comfyui_personalize.pocket.world_scenes import CONTEXTS
from comfyui_personalize.pocket.world_shapes import NOUNS


def test_answers_have_one_logit_per_label_and_unit_embeddings():
    answers = Judge()(torch.rand(2, 3, 64, 64))
    assert answers["noun"].shape == (2, len(NOUNS)) and answers["context"].shape == (2, len(CONTEXTS))
    assert answers["colour"].shape == (2, len(COLOURS)) and answers["identity"].shape == (2, EMBEDDING)
    assert torch.allclose(answers["identity"].norm(dim=-1), torch.ones(2), atol=1e-5)


def test_contrastive_loss_is_log_of_the_candidates_where_all_agree():
    same = torch.nn.functional.normalize(torch.ones(6, 4), dim=-1)
    assert contrastive_loss(same).item() == pytest.approx(math.log(5), abs=1e-4)


def test_labels_name_what_the_scene_shows():
    scene = training_scene(1)
    noun, context, _ = labels_of(scene)
    assert NOUNS[noun] == scene.look.noun and CONTEXTS[context] == scene.context


def test_subjects_are_judged_only_where_they_can_be_seen():
    look = subject(1, "fish")
    assert scene_of(look, 5).look == look


@pytest.mark.skipif(not JUDGE_FILE.exists(), reason="judge.safetensors is missing: run `python -m pocket.train`")
def test_the_frozen_judge_is_right_on_held_out_renders():
    scenes = [training_scene(s) for s in SEEDS["held_out_scenes"][:100]]
    pictures = torch.stack([torch.from_numpy(render(s)[0].copy()) for s in scenes]).permute(0, 3, 1, 2) / 255
    shares = accuracy(load_judge(), pictures, torch.tensor([labels_of(s) for s in scenes]))
    assert shares["noun"] >= 0.95 and shares["context"] >= 0.95

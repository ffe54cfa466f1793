"""Training goes on from the committed files where the state is lost: what is written is what was published."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from comfyui_personalize.pocket.export import export
from comfyui_personalize.pocket.generator import Generator
from comfyui_personalize.pocket.image_text import CHECKPOINT, IMAGE_TEXT_FILE
from comfyui_personalize.pocket.judge import JUDGE_FILE
from comfyui_personalize.pocket.learner import Learner
from comfyui_personalize.pocket.published import start_state
from comfyui_personalize.pocket.state import MAX_BYTES, is_frozen, load_state


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    path = tmp_path_factory.mktemp("published") / "pocket.state"
    start_state(path)
    return path


def test_exported_again_the_files_are_the_committed_ones(state, tmp_path):
    export(state, tmp_path)
    for file in (CHECKPOINT, IMAGE_TEXT_FILE, JUDGE_FILE):
        committed, again = load_file(file), load_file(tmp_path / file.parent.name / file.name)
        assert committed.keys() == again.keys()
        for key, tensor in committed.items():
            # The encoder's last layer is scaled and scaled back: one rounding in float16.
            torch.testing.assert_close(again[key].float(), tensor.float(), rtol=1e-3, atol=1e-6, msg=key)


def test_the_autoencoder_is_frozen_and_there_is_room_to_train_the_rest(state):
    assert is_frozen(state, "autoencoder")
    assert not any(is_frozen(state, name) for name in ("judge", "generator", "encoder"))
    assert state.stat().st_size < MAX_BYTES


def test_the_rate_warms_up_again(state):
    network = Generator()
    learner = Learner(network, peak=1e-3, warm_up=300)
    learner.load(load_state(state)["generator"])
    learner.learn(sum(p.square().sum() for p in learner.parameters))
    assert learner.step > 20_000
    assert learner.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 / 300)
    kept = learner.state()
    again = Learner(Generator(), peak=1e-3, warm_up=300)
    again.load(kept)
    again.learn(sum(p.square().sum() for p in again.parameters))
    assert again.optimizer.param_groups[0]["lr"] == pytest.approx(2e-3 / 300)


def test_a_state_that_is_there_is_not_written_over(state):
    with pytest.raises(SystemExit, match="there already"):
        start_state(state)

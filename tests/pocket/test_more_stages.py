"""Image-text encoder and upscaler on the second world: batches, exact resume, learning, and the files' form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from comfyui_personalize.pocket import image_text as committed
from comfyui_personalize.pocket import more_stages, state, upscaler
from comfyui_personalize.pocket.device import find_machine
from comfyui_personalize.pocket.export import export, write_image_text
from comfyui_personalize.pocket.generator import Generator
from comfyui_personalize.pocket.image_text import IMAGE_TEXT_FILE, text_projection
from comfyui_personalize.pocket.image_text_training import (
    ImageTextEncoder,
    Tower,
    contrast,
    digest,
    encoder_batch,
    encoder_loss,
    fixed_prompts,
    pooled,
    read_nouns,
)
from comfyui_personalize.pocket.judge import IGNORED
from comfyui_personalize.pocket.learner import Learner
from comfyui_personalize.pocket.looks import individuals
from comfyui_personalize.pocket.sitting import Plan, take_up
from comfyui_personalize.pocket.state import freeze, is_frozen, load_state, save_state
from comfyui_personalize.pocket.text import TextEncoder
from comfyui_personalize.pocket.world_shapes import NOUNS

CPU = find_machine("cpu", 0)


def small_generator() -> Generator:
    torch.manual_seed(3)
    return Generator((1, 1, 1))


def begun(path) -> Generator:
    """A state with a generator that was never trained, and the generator."""
    generator = small_generator()
    save_state(path, generator=Learner(generator, peak=1e-3).state())
    return generator


def plan(path, steps, batch, is_last=False) -> Plan:
    return Plan(path=path, minutes=60, batch=batch, max_steps=steps, is_last=is_last)


@pytest.fixture
def small(monkeypatch):
    """A small generator, checks of eight pictures, and an upscaler step of two crops."""
    monkeypatch.setattr(more_stages, "Generator", small_generator)
    monkeypatch.setattr("comfyui_personalize.pocket.export.Generator", small_generator)
    real = more_stages.encoder_batch
    monkeypatch.setattr(more_stages, "encoder_batch", lambda number, batch: real(number, min(batch, 8)))
    monkeypatch.setattr(upscaler, "SHARES", ((96, 2, 1),))


@pytest.mark.parametrize("name", ["encoder", "upscaler"])
def test_a_resumed_sitting_is_the_uninterrupted_one_bit_by_bit(tmp_path, small, monkeypatch, name):
    monkeypatch.setattr("comfyui_personalize.pocket.sitting.SAVE_SECONDS", -1.0)  # both settle at every step
    stage = {"encoder": more_stages.train_encoder, "upscaler": more_stages.train_upscaler}[name]
    for file, sittings in (("cut.state", (1, 1)), ("whole.state", (2,))):
        begun(tmp_path / file)
        for steps in sittings:
            stage(plan(tmp_path / file, steps, 8), CPU)
    cut, whole = (load_state(tmp_path / file)[name] for file in ("cut.state", "whole.state"))
    assert cut["step"] == whole["step"] == 2
    for part in ("weights", "average", "moments", "buffers"):
        assert all(torch.equal(cut[part][key], whole[part][key]) for key in whole[part])


def test_the_last_sitting_freezes_what_it_relies_on_and_export_writes_what_came_along(tmp_path, small):
    path = tmp_path / "s.state"
    generator = begun(path)
    more_stages.train_encoder(plan(path, 1, 8, is_last=True), CPU)
    assert is_frozen(path, "generator") and not is_frozen(path, "encoder")
    export(path, tmp_path / "out")
    file = tmp_path / "out" / "image_text" / IMAGE_TEXT_FILE.name
    tensors, before = load_file(file), load_file(IMAGE_TEXT_FILE)
    assert {key: tuple(t.shape) for key, t in tensors.items()} == {key: tuple(t.shape) for key, t in before.items()}
    assert text_projection(file) is not None
    save_file(load_file(file), file)
    assert text_projection(file) is None  # a file that does not say whose it is, as the first model's
    kept = load_state(path)
    with torch.no_grad():
        generator.text.positions += 0.1
    with pytest.raises(ValueError, match="another text encoder"):
        write_image_text(tmp_path / "x.safetensors", kept, generator)


def test_the_tower_answers_as_transformers_clip_does():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    tower, pictures = Tower().eval(), torch.randn(2, 3, 96, 96)
    config = transformers.CLIPVisionConfig(**committed.VISION_CONFIG, attn_implementation="eager")
    theirs = transformers.CLIPVisionModelWithProjection(config).eval()
    missing, unexpected = theirs.load_state_dict(tower.state_dict(), strict=False)
    assert not unexpected and all(key.endswith("position_ids") for key in missing)
    with torch.no_grad():
        torch.testing.assert_close(tower(pictures), theirs(pictures).image_embeds, atol=1e-5, rtol=1e-4)


def test_batches_say_which_noun_and_which_individual_where_there_is_one_answer():
    batch = encoder_batch(0, 60)
    words, names = TextEncoder().words, list(individuals().values())
    for row, noun, name in zip(batch.rows, batch.noun.tolist(), batch.name.tolist(), strict=True):
        if noun != IGNORED:
            assert words.rows[NOUNS[noun]][0] in row.tolist()
        if name != IGNORED:
            assert names[name].noun == NOUNS[noun]
    assert (batch.noun == IGNORED).any() and (batch.name != IGNORED).any()
    again = encoder_batch(0, 60)
    assert all(torch.equal(a, b) for a, b in zip(batch, again, strict=True))


def test_equal_captions_are_no_wrong_answers_of_each_other():
    pair, rows = torch.eye(4)[:2], torch.tensor([[1, 2], [1, 2]])
    assert float(contrast(pair, pair, rows, torch.tensor(1.0))) == pytest.approx(0)
    apart = contrast(pair, pair, torch.tensor([[1, 2], [3, 4]]), torch.tensor(1.0))
    assert float(apart) == pytest.approx(float(torch.log1p(torch.exp(torch.tensor(-1.0)))))


def test_the_encoder_learns_from_fixed_pictures():
    torch.manual_seed(0)
    text, batch = small_generator().text.requires_grad_(False), encoder_batch(0, 16)
    prompts, texts = fixed_prompts(text), pooled(text, batch.rows)
    encoder = ImageTextEncoder()
    learner, losses = Learner(encoder, peak=2e-3, warm_up=1), []
    pictures = batch.pictures.float() / 255
    for _ in range(8):
        losses.append(encoder_loss(encoder, encoder.embed_images(pictures), texts, batch, prompts))
        learner.learn(losses[-1])
    assert losses[-1] < 0.8 * losses[0]
    images = encoder.embed_texts(prompts.nouns[batch.noun.clamp(min=0)])  # pictures that are their prompts
    assert read_nouns(encoder, images, batch, prompts) == 1


def test_a_pooled_caption_is_the_whole_encoders_answer_at_the_end_of_the_text():
    text = small_generator().text
    rows = torch.from_numpy(np.stack([text.words.encode(caption) for caption in ("a dog", "a red cat in the snow")]))
    with torch.no_grad():
        whole = text(rows)
    torch.testing.assert_close(pooled(text, rows), torch.stack([whole[0, 3], whole[1, 7]]))


def test_strangers_leave_the_text_encoder_as_it_was():
    text = small_generator().text
    before, number = text.name_rows.clone(), digest(text)
    prompts = fixed_prompts(text)
    assert torch.equal(text.name_rows, before) and digest(text) == number
    assert prompts.nouns.unique(dim=0).shape[0] == len(NOUNS) + 48 and len(prompts.names) == 500


def test_the_upscalers_batches_are_pairs_and_its_start_is_near_the_linear_guess(monkeypatch):
    monkeypatch.setattr(upscaler, "SHARES", ((96, 2, 2),))
    latents, low, level = upscaler.upscaler_batch(0, 16)
    assert latents.shape == (4, 24, 16, 16) and low.shape == (4, 3, 16, 16) and level.shape == (4,)
    assert upscaler.upscaler_batch(4, 16)[0].shape[-1] == 24
    again = upscaler.upscaler_batch(0, 16)
    assert torch.equal(latents, again[0]) and torch.equal(low, again[1])
    means = upscaler.latents_to_pictures(latents).unflatten(2, (16, 4)).unflatten(4, (16, 4)).mean((3, 5))
    assert float((means - low).abs().mean()) < 0.05
    draws = torch.Generator().manual_seed(0)
    found, bicubic = upscaler.upscaler_decibels(upscaler.new_upscaler().eval(), (latents, low, level), draws)
    assert found > 15 and bicubic > 18


def test_a_stage_without_room_says_which_command_makes_it(tmp_path, monkeypatch):
    path = tmp_path / "s.state"
    save_state(path, generator=Learner(nn.Linear(8, 8), peak=1e-3).state())
    monkeypatch.setattr(state, "MAX_BYTES", path.stat().st_size + 1000)
    with pytest.raises(SystemExit, match="--freeze generator"):
        take_up("upscaler", Learner(nn.Linear(8, 8), peak=1e-3), path)
    freeze(path, "generator")
    assert set(load_state(path)) == {"generator"}

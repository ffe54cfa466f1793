"""Training on one subject's photos helps on photos of it that were held out, more than training on another's.

The pocket model knows no photos, so much of what it learns from any of them is how photos look: a dog and a car differ
enough to tell the rest apart, two toys do not.
"""

from __future__ import annotations

from pathlib import Path

import comfy.model_management
import nodes as stock
import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor
from trainer_rig import train, use_store

from comfyui_personalize.core.data.options import DataOptions
from comfyui_personalize.core.subject.subject import Photo, Subject
from comfyui_personalize.nodes.bridge.model.denoiser import ComfyDenoiser
from comfyui_personalize.nodes.bridge.photos.latents import encode_view, photo_crops
from comfyui_personalize.nodes.bridge.text.encoder import encode
from comfyui_personalize.pocket import config
from comfyui_personalize.pocket.comfyui.registration import CHECKPOINTS, register_pocket
from comfyui_personalize.pocket.subjects import subject_photos

pytestmark = pytest.mark.usefixtures("inference_mode")
SHARED = Path(__file__).resolve().parents[5] / "shared" / "photos"
HELD_OUT = 2
UNTRAINED = 0.9


def shared_photos(name: str) -> list[Photo]:
    pictures = [Image.open(path).convert("RGB") for path in sorted((SHARED / name).glob("??.jpg"))]
    return [Photo(pixels=torch.from_numpy(numpy.asarray(picture).copy()).float() / 255) for picture in pictures]


def rendered_photos(number: int) -> list[Photo]:
    return [Photo(pixels=torch.from_numpy(photo.pixels.copy()).float() / 255)
            for photo in subject_photos(number, 5, "dog")]


def held_out_loss(model, clip, vae, photos: list[Photo], text: str) -> float:
    """Mean squared error on photos at 16 fixed noise levels each."""
    comfy.model_management.load_models_gpu([model])
    denoiser, row, errors = ComfyDenoiser(model, config.SIZE), encode(clip, text), []
    index = torch.arange(30, 990, 60)
    for number, photo in enumerate(photos):
        crop = photo_crops(photo, config.SIZE, DataOptions())[0]
        latents: Tensor = model.model.process_latent_in(encode_view(vae, photo, crop))
        latents = latents.expand(len(index), -1, -1, -1)
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(number))
        predicted = denoiser(denoiser.schedule.add_noise(latents, noise, index), index, [row] * len(index))
        errors.append((predicted - denoiser.schedule.target(latents, noise, index)).square().mean())
    return float(torch.stack(errors).mean())


@pytest.fixture(scope="module")
def pocket():
    if not (CHECKPOINTS / "pocket.safetensors").exists():
        pytest.skip("lacks pocket/checkpoints/pocket.safetensors")
    register_pocket()
    with torch.inference_mode():
        return stock.CheckpointLoaderSimple().load_checkpoint("pocket.safetensors")


@pytest.mark.parametrize("source", [pytest.param("photos", marks=pytest.mark.full), "renders"])
def test_the_held_out_loss_falls_more_than_after_another_subject(pocket, source, tmp_path, monkeypatch):
    if source == "photos" and not SHARED.exists():
        pytest.skip("lacks ../shared/photos; the renders stand for them")
    use_store(tmp_path, monkeypatch)
    own, other = (shared_photos("dog"), shared_photos("rc_car")) if source == "photos" else (
        rendered_photos(0), rendered_photos(1))
    seen, unseen = own[HELD_OUT:], own[:HELD_OUT]

    def loss_after(photos: list[Photo]) -> float:
        subject = (Subject(identifier="sks", class_noun="dog", photos=tuple(photos)),)
        model, clip, *_ = train(pocket, subject=subject, steps=100, learning_rate=1e-3, resolution=config.SIZE)
        return held_out_loss(model, clip, pocket[2], unseen, "a sks dog")

    before = held_out_loss(*pocket, unseen, "a sks dog")
    if before > UNTRAINED:
        pytest.skip("lacks a trained pocket checkpoint: this one predicts no better than zero")
    after_own, after_other = loss_after(seen), loss_after(other[HELD_OUT:])
    assert after_own < before and before - after_own > before - after_other

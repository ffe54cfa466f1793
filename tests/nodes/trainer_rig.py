"""Calls of the trainer node on the tiny model, and comparisons of what it leaves behind."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.sample
import pytest
import torch
from torch import Tensor

from comfyui_personalize.core.subject.subject import Photo, Subject
from comfyui_personalize.nodes.personalize_trainer import PersonalizeTrainer


def photos(count: int = 2, seed: int = 0, masked: bool = False) -> tuple[Photo, ...]:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.zeros(72, 96)
    mask[16:56, 24:72] = 1
    return tuple(Photo(pixels=torch.rand(72, 96, 3, generator=generator), mask=mask if masked else None)
                 for _ in range(count))


def subjects(**changes: Any) -> tuple[Subject, ...]:
    return (Subject(**{"identifier": "sks", "class_noun": "dog", "photos": photos()} | changes),)


def train(models: tuple[Any, Any, Any], **changes: Any) -> tuple:
    """The node's outputs: MODEL, CLIP, LORA_MODEL, LOSS_MAP, IMAGE, PERSONALIZATION, report."""
    inputs = {"model": models[0], "clip": models[1], "vae": models[2], "subject": subjects(), "steps": 3,
              "learning_rate": 1e-3, "batch": 1, "resolution": 64, "seed": 1, "run_name": "test"}
    return PersonalizeTrainer.PREPARE_CLASS_CLONE(None).execute(**inputs | changes).result[:8]


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Same names, bitwise same tensors."""
    return first.keys() == second.keys() and all(
        first[name].cpu().numpy().tobytes() == second[name].cpu().numpy().tobytes() for name in first)


def weights(models: tuple[Any, Any, Any]) -> dict[str, Tensor]:
    """Copies of all weights of MODEL and CLIP, without patches."""
    parts = (models[0], models[1].patcher)
    return {f"{number}.{name}": patches[0][0].detach().clone()
            for number, part in enumerate(parts) for name, patches in part.get_key_patches().items()}


def sample(model: Any, clip: Any, text: str = "a sks dog") -> Tensor:
    """Latents of two Euler steps, as stock nodes sample them."""
    cond = clip.encode_from_tokens_scheduled(clip.tokenize(text), show_pbar=False)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    return comfy.sample.sample(model, noise, 2, 3.0, "euler", "normal", cond, cond, torch.zeros(1, 4, 8, 8), seed=5,
                               disable_pbar=True)


class Untouched:
    """Within the context anything may happen to the models; at the end they are compared with what they were."""

    def __init__(self, models: tuple[Any, Any, Any]):
        self.models = models

    def __enter__(self) -> None:
        self.weights, self.picture = weights(self.models), sample(*self.models[:2])
        self.patches = copy.copy(self.models[0].patches)
        self.modules = [type(module) for module in self.models[0].model.modules()]

    def __exit__(self, *_: object) -> None:
        assert equal(weights(self.models), self.weights)
        assert torch.equal(sample(*self.models[:2]), self.picture)
        assert self.models[0].patches == self.patches
        assert [type(module) for module in self.models[0].model.modules()] == self.modules


class CancelAt:
    """Stands for the user who presses cancel after a number of steps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: int):
        from comfyui_personalize.nodes.bridge.progress import Progress

        shown = Progress.show

        def show(progress: Progress, number: int, picture: Tensor | None = None) -> None:
            if number == step:
                comfy.model_management.interrupt_current_processing(True)
            shown(progress, number, picture)

        monkeypatch.setattr(Progress, "show", show)


def use_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty run store and LoRA folder for one test; returns where runs are kept."""
    import folder_paths

    (folder / "loras").mkdir(parents=True)
    monkeypatch.setattr(folder_paths, "output_directory", str(folder / "output"))
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras",
                        ([str(folder / "loras")], folder_paths.supported_pt_extensions))
    folder_paths.filename_list_cache.pop("loras", None)
    return folder / "output" / "personalize"

"""One model on a card: its step against the bare loop's, a cancel, and sampling with DCI; what `make gpu` reports."""

from __future__ import annotations

import logging
import math
import re
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu_card import card, clock, held, highest, milliseconds, now, release
from gpu_models import Model

DCI_STEPS, DCI_ROUNDS = 20, 2
PROMPT = "a photo of a sks dog in times square"

log = logging.getLogger("gpu")


@dataclass(kw_only=True)
class Figures:
    """What was measured of one model; memory in GB, time in ms.

    Attributes:
        bare_ms, ours_ms: of a step, the median after a warm-up.
        bare_gb, ours_gb: the highest that a run holds on the card, less what text encoder and VAE hold there.
        held_gb: what the process holds on the card after the first and after the second run.
        cancelled_at, resumed_from: steps of the cancelled run, and where the next one went on.
        is_restored: whether every weight of MODEL is bit for bit what it was before.
        dci_ms, plain_ms: of a guided sampling run of 20 steps.
    """

    model: str
    size: int
    bare_ms: float = math.nan
    ours_ms: float = math.nan
    bare_gb: float = math.nan
    ours_gb: float = math.nan
    held_gb: list[float] = field(default_factory=list)
    cancelled_at: int = 0
    resumed_from: int = 0
    is_restored: bool = False
    dci_ms: float = math.nan
    plain_ms: float = math.nan


def measure(name: str, model: Model, steps: int, folder: Path) -> Figures:
    """All figures of one model; everything is gone from the card afterwards."""
    figures = Figures(model=name, size=model.size)
    log.info("%s: bare loop", name)
    figures.bare_ms, figures.bare_gb = measure_bare(model, steps)
    log.info("%s: writing and loading a checkpoint", name)
    models = model.load(folder)
    before = weights_of(models[0])
    for number in range(2):
        log.info("%s: the trainer, run %d", name, number + 1)
        figures.ours_ms, figures.ours_gb = measure_node(models, model.size, steps, seed=number)
        figures.held_gb.append(held())
    log.info("%s: bare loop again, cancel", name)
    bare_ms, _ = measure_bare(model, steps)
    figures.bare_ms = statistics.mean([figures.bare_ms, bare_ms])
    figures.cancelled_at, figures.resumed_from = cancel(models, model.size, steps)
    figures.is_restored = before == weights_of(models[0])
    log.info("%s: DCI and plain sampling", name)
    figures.plain_ms, figures.dci_ms = measure_dci(models, model.size)
    del models
    release()
    return figures


def measure_bare(model: Model, steps: int) -> tuple[float, float]:
    """Milliseconds a step and the highest GB of the bare loop."""
    import torch
    from diffusers import UNet2DConditionModel
    from peft import LoraConfig, inject_adapter_in_model

    device = card()
    with torch.device(device):
        unet = UNet2DConditionModel(**model.unet).to(torch.bfloat16).requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=16, lora_alpha=16, target_modules=["to_q", "to_k", "to_v", "to_out.0"]), unet)
    learned = [value for value in unet.parameters() if value.requires_grad]
    for value in learned:
        value.data = value.data.float()
    optimizer = torch.optim.AdamW(learned, lr=1e-4)
    cells, width = model.size // 8, model.unet["cross_attention_dim"]
    latents, context = torch.randn(1, 4, cells, cells, device=device), torch.randn(1, 77, width, device=device)
    added = {"text_embeds": torch.randn(1, 1280, device=device),
             "time_ids": torch.tensor([[model.size, model.size, 0, 0, model.size, model.size]], device=device)}
    with clock() as times:
        for _ in range(steps):
            with torch.autocast(device, torch.bfloat16):
                prediction = unet(torch.randn_like(latents), torch.tensor([500], device=device), context,
                                  added_cond_kwargs=added).sample
            (prediction.float() - latents).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    result = milliseconds(times), highest()
    del unet, learned, optimizer, prediction
    release()
    return result


def measure_node(models: tuple[Any, Any, Any], size: int, steps: int, seed: int) -> tuple[float, float]:
    """Milliseconds a step and the highest GB of a run of the trainer's node."""
    _, clip, vae = models
    with clock() as times:
        train(models, size, steps, seed, f"run{seed}")
    others = sum(part.patcher.loaded_size() for part in (clip, vae)) / 2 ** 30
    return milliseconds(times), highest() - (others if card() == "cuda" else 0)


def train(models: tuple[Any, Any, Any], size: int, steps: int, seed: int, name: str) -> Any:
    """The trainer node's report on two photos of noise, at its defaults: gradient checkpointing by the free memory."""
    import torch

    from comfyui_personalize.core.subject.subject import Photo, Subject
    from comfyui_personalize.nodes.personalize_trainer import PersonalizeTrainer

    photos = tuple(Photo(pixels=torch.rand(size, size, 3, generator=torch.Generator().manual_seed(number)))
                   for number in range(2))
    subject = Subject(identifier="sks", class_noun="dog", photos=photos)
    with torch.inference_mode():  # as ComfyUI runs nodes
        return PersonalizeTrainer.PREPARE_CLASS_CLONE(None).execute(
            model=models[0], clip=models[1], vae=models[2], subject=(subject,), steps=steps, learning_rate=1e-4,
            batch=1, resolution=size, seed=seed, run_name=name).result[6]


def cancel(models: tuple[Any, Any, Any], size: int, steps: int) -> tuple[int, int]:
    """The step at which a run was cancelled, and the one from which the same graph went on."""
    import comfy.model_management
    from torch.optim.optimizer import register_optimizer_step_post_hook

    done = []

    def stop(*_: Any) -> None:
        done.append(0)
        if len(done) == steps // 2:
            comfy.model_management.interrupt_current_processing()

    handle = register_optimizer_step_post_hook(stop)
    try:
        train(models, size, steps, 7, "cancelled")
        raise RuntimeError("the run was not cancelled")
    except comfy.model_management.InterruptProcessingException:
        pass
    finally:
        handle.remove()
    report = train(models, size, steps, 7, "cancelled")
    resumed = re.search(r"resumed from step (\d+)", report)
    return len(done), int(resumed[1]) if resumed else 0


def measure_dci(models: tuple[Any, Any, Any], size: int) -> tuple[float, float]:
    """Milliseconds of a guided sampling run without and with DCI, alternating; the median of each."""
    import comfy.sample
    import torch

    from comfyui_personalize.nodes.bridge.sampling.sampling import conditioning, empty_latent
    from comfyui_personalize.nodes.dci_conditioning import DCIConditioning

    found: dict[str, list[float]] = {"plain": [], "dci": []}
    with torch.inference_mode():
        model, clip, vae = models
        node = DCIConditioning.PREPARE_CLASS_CLONE(None)
        patched, dual = node.execute(model, clip, PROMPT, "sks", "dog", "cat", 1.0, 0.3, True).result
        graphs = {"plain": (model, conditioning(clip, PROMPT)), "dci": (patched, dual)}
        negative, latent = conditioning(clip, ""), empty_latent(model, vae, size)
        noise = comfy.sample.prepare_noise(latent, 1)
        for number in range(1 + DCI_ROUNDS):  # the first to warm up
            for name in list(graphs) if number % 2 else list(graphs)[::-1]:
                graph, positive = graphs[name]
                with clock() as times:
                    times.append(now())
                    comfy.sample.sample(graph, noise, DCI_STEPS, 6.0, "ddim", "normal", positive, negative, latent,
                                        seed=1, disable_pbar=True)
                    times.append(now())
                if number:
                    found[name].append(1000 * (times[-1] - times[0]))
    return statistics.median(found["plain"]), statistics.median(found["dci"])


def weights_of(model: Any) -> dict[str, str]:
    """A digest of every weight of MODEL."""
    from comfyui_personalize.nodes.bridge.model.hashes import tensor_digest

    return {name: tensor_digest(patches[0][0]).hex() for name, patches in model.get_key_patches().items()}

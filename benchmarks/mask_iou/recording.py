"""What do both branches of DCI see in a picture, noised or while it is sampled? Maps of 'V noun' at every level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .scenes import Case

LEVELS = (0.02, 0.1, 0.2, 0.3)
LATER = (0.5, 0.7, 0.9)
"""After the window, where DCI is over: do the maps see the picture once it is visible?"""
SAMPLER: dict[str, Any] = {"steps": 25, "cfg": 3.0, "sampler": "euler_ancestral", "scheduler": "normal"}
GRIDS = {"all scales": None, "finest scale": -1}


def dual(model: Any, clip: Any, case: Case, window: float) -> tuple[Any, list]:
    """MODEL and CONDITIONING with DCI at its defaults."""
    from comfyui_personalize.core.dci.config import DCIConfig
    from comfyui_personalize.core.dci.subjects import DCISubject, SubjectPrompt
    from comfyui_personalize.nodes.bridge.dci.dual_branch import patch_dual_branch
    from comfyui_personalize.nodes.bridge.dci.dual_prompt import encode_dual_prompt

    one = DCISubject(identifier=case.name, class_noun=case.noun, auxiliary_noun=case.auxiliary_noun)
    conditioning = encode_dual_prompt(clip, SubjectPrompt(prompt=case.prompt, subjects=(one,)))
    return patch_dual_branch(model, DCIConfig(window=window)), conditioning


def look_once(model: Any, clip: Any, vae: Any, case: Case, index: int, levels: Sequence[float] = LEVELS) -> Any:
    """A recorder of one network call per level on the noised pictures of a case."""
    import comfy.sample
    import comfy.samplers
    import torch

    from comfyui_personalize.core.dci.observation import MaskRecorder
    from comfyui_personalize.nodes.bridge.dci.dual_branch import record_masks

    schedule = model.get_model_object("model_sampling")
    pictures = vae.encode(torch.stack([case.picture, case.auxiliary_picture]))
    rows = model.model.process_latent_in(pictures)
    recorder = MaskRecorder(*pictures.shape[-2:])
    patched, positive = dual(model, clip, case, 1.0)

    class Look(comfy.samplers.Sampler):
        def sample(self, model_wrap: Any, sigmas: Any, extra_args: dict, callback: Any, noise: Any, *others: Any,
                   **more: Any) -> Any:
            for sigma in sigmas:
                noisy = schedule.noise_scaling(sigma, noise.clone(), rows, False)
                model_wrap(noisy, sigma.expand(2), **extra_args)
            return rows

    sigmas = torch.tensor([float(schedule.percent_to_sigma(level)) for level in levels])
    noise = torch.randn(pictures[:1].shape, generator=torch.Generator().manual_seed(index))
    comfy.sample.sample_custom(record_masks(patched, recorder), noise, 1.0, Look(), sigmas, positive, positive,
                               pictures[:1], disable_pbar=True, seed=index)
    return recorder


def sample_case(model: Any, clip: Any, vae: Any, case: Case, index: int) -> tuple[Any, Any]:
    """A picture (H, W, 3) sampled with DCI at its defaults, and the recorder of that run."""
    import torch

    from comfyui_personalize.nodes.bridge.dci.watched_sampling import SamplerSettings, sample_watched
    from comfyui_personalize.nodes.bridge.sampling.sampling import conditioning

    patched, positive = dual(model, clip, case, 0.3)
    latent = {"samples": torch.zeros(1, 16, 12, 12)}
    sampled, recorder = sample_watched(patched, positive, conditioning(clip, ""), latent,
                                       SamplerSettings(seed=index, **SAMPLER), overlay=False)
    return vae.decode(sampled["samples"])[0].clamp(0, 1).float(), recorder


def maps_of(recorders: list[Any], size: int) -> dict[tuple[str, str], list[Any]]:
    return {(kind, grids): [subject_map(recorder, kind, grids, size) for recorder in recorders]
            for kind in ("concept", "mask") for grids in GRIDS}


def subject_map(recorder: Any, kind: str, grids: str, size: int) -> Any:
    """The map (H, W) at picture size, stretched to 0..1."""
    from comfyui_personalize.core.dci.observation import stretch

    chosen = None if GRIDS[grids] is None else [recorder.grids[GRIDS[grids]]]
    return stretch(recorder.mean(kind, size, size, chosen))[0]

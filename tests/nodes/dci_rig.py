"""What the DCI tests share: the node, stock sampling, and a count of the rows that the network really saw."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import nodes as stock
import torch
from torch import Tensor

from comfyui_personalize.nodes.bridge.dci.dual_branch import dual_branch_of
from comfyui_personalize.nodes.dci_conditioning import DCIConditioning

PROMPT = "a photo of a sks dog in times square"
SETTINGS = {"prompt": PROMPT, "identifier": "sks", "class_noun": "dog", "auxiliary_noun": "cat", "omega": 1.0,
            "window": 0.3, "shared_guidance": True}


def apply_dci(model: Any, clip: Any, **changes: Any) -> tuple[Any, list]:
    """MODEL and CONDITIONING of the node, with the defaults of `SETTINGS`."""
    node = DCIConditioning.PREPARE_CLASS_CLONE(None)
    with torch.inference_mode():
        return node.execute(model=model, clip=clip, **{**SETTINGS, **changes}).args


def encode(clip: Any, text: str) -> list:
    """Stock CLIPTextEncode."""
    with torch.inference_mode():
        return stock.CLIPTextEncode().encode(clip, text)[0]


def empty_latent(rows: int = 1, size: int = 8) -> dict:
    return {"samples": torch.zeros(rows, 4, size, size)}


def ksample(model: Any, positive: list, negative: list, latent: dict | None = None, **changes: Any) -> Tensor:
    """Stock KSampler: ddim, normal scheduler, 8 steps, cfg 4, seed 3 unless told otherwise."""
    settings = {"seed": 3, "steps": 8, "cfg": 4.0, "sampler_name": "ddim", "scheduler": "normal", **changes}
    with torch.inference_mode():
        out = stock.common_ksampler(model, positive=positive, negative=negative,
                                    latent=latent or empty_latent(), **settings)
    return out[0]["samples"].clone()


@dataclass(frozen=True)
class NoMixing:
    """Sites of which none mixes: both branches run and do not meet."""

    names: dict

    def install(self, options, run, pairs):
        return options


def without_mixing(model):
    """The same patched MODEL, whose branches do not meet."""
    patched = model.clone()
    wrappers = patched.wrappers["outer_sample"]["personalize_dci"]
    sampling = dual_branch_of(model)
    assert sampling is not None
    wrappers[:] = [replace(sampling, sites=NoMixing(sampling.sites.names))]
    return patched


def is_stood_in(network: torch.nn.Module) -> bool:
    """Whether the network is being looked at, without its weights."""
    return any("forward" in layer.__dict__ for layer in network.modules() if isinstance(layer, torch.nn.Linear))


@contextlib.contextmanager
def counted_rows(model: Any) -> Iterator[list[int]]:
    """Rows of every call of the network, counted at the network itself; a look at it is none."""
    calls: list[int] = []
    network = model.model.diffusion_model
    handle = network.register_forward_pre_hook(
        lambda _, inputs: None if is_stood_in(network) else calls.append(inputs[0].shape[0]))
    try:
        yield calls
    finally:
        handle.remove()


def steps_in_window(steps: int, window: float = 0.3) -> int:
    """K for the `normal` scheduler, whose timesteps run evenly from 999 to 0: how many have t > (1 - window)
    999."""
    return sum(999 * (1 - i / (steps - 1)) > (1 - window) * 999 for i in range(steps))


def assert_close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    """Equal to within `tolerance` of the expected latents' spread (random weights give them any size)."""
    assert actual.shape == expected.shape
    difference = float((actual - expected).abs().max() / expected.std())
    assert difference < tolerance, f"differs by {difference:.2e} of the spread"

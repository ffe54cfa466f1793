"""Whether the attentions of a loaded MODEL can be mixed, before there is a prompt: one look with made-up inputs.

The made-up conditioning has everything that ComfyUI's text encoders give beside the context, and each network takes
from it what it knows; how wide its context must be is tried.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .attention_probe import Look, look_at, stood_in

TOKENS, CELLS = 77, (32, 40)
"""Text tokens of the made-up context, and height and width of the latents, at 8 pixels a cell."""
logger = logging.getLogger(__name__)


def look_at_model(model: Any) -> Look | None:
    """What a MODEL's network does with a made-up prompt; None where it runs with none.

    The first width counts at which it runs and has sites.
    """
    network = model.get_model_object("diffusion_model")
    device = next(network.parameters()).device
    looks = []
    with _in_place(model.model, network):
        for width in _widths(network):
            try:
                looks.append(_look(model.model, width, device))
            except Exception as reason:  # noqa: BLE001 - whatever a network says of a text that is not its own
                logger.debug("%s takes no context of width %s: %s", type(network).__name__, width, reason)
            if looks and looks[-1].sites:
                break
    return max(looks, key=lambda look: len(look.sites), default=None)


@contextmanager
def _in_place(base: Any, network: nn.Module) -> Iterator[None]:
    """Within the context the MODEL's network is the one that a node put in its place, as while it samples."""
    before = base.diffusion_model
    try:
        base.diffusion_model = network
        yield
    finally:
        base.diffusion_model = before


def _look(base: Any, width: int, device: torch.device) -> Look:
    with torch.inference_mode(), stood_in(base.diffusion_model):
        latents = _latents(base.latent_format, device)
        row = _conditioning(width, device)
        made = base.extra_conds(**row, noise=latents, latent_image=latents, device=device, prompt_type="positive",
                                width=8 * latents.shape[-1], height=8 * latents.shape[-2])
        conds = {name: cond.process_cond(batch_size=1, area=None).cond for name, cond in made.items()}
        context = conds.pop("c_crossattn", None)
        sigma = torch.full((1,), float(base.model_sampling.percent_to_sigma(0.5)), device=device)

        def forward(x: Tensor, text: Tensor, override: Callable[..., Tensor]) -> Any:
            options = {"optimized_attention_override": override, "cond_or_uncond": [0], "uuids": [0], "sigmas": sigma}
            return base._apply_model(x, sigma, c_crossattn=None if context is None else text,
                                     transformer_options=options, **conds)

        return look_at(base.diffusion_model, forward, latents, _noise(1, 0, 0) if context is None else context)


def _latents(latent_format: Any, device: torch.device) -> Tensor:
    cells = [max(side, side * 8 // latent_format.spacial_downscale_ratio) for side in CELLS]
    frames = [1] * (latent_format.latent_dimensions - 2)
    return _noise(1, latent_format.latent_channels, *frames, *cells).to(device)


def _conditioning(width: int, device: torch.device) -> dict[str, Any]:
    """An entry of a CONDITIONING such as no text encoder gives, but as all of them do together."""
    ones = torch.ones(1, TOKENS, dtype=torch.long, device=device)
    return {
        "cross_attn": _noise(1, TOKENS, width).to(device), "pooled_output": _noise(1, 2048).to(device),
        "attention_mask": ones, "conditioning_llama3": _noise(1, 64, TOKENS, width).to(device),
        "conditioning_mt5xl": _noise(1, 256, width).to(device),
        "attention_mask_mt5xl": torch.ones(1, 256, dtype=torch.long, device=device),
        "text_input_ids": torch.arange(TOKENS, device=device)[None],
        "t5xxl_ids": torch.arange(TOKENS, device=device), "t5xxl_weights": torch.ones(TOKENS, device=device),
    }


def _noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _widths(network: nn.Module) -> Iterator[int]:
    """The widths that a network's layers take, each once, in the order in which they stand in it."""
    seen: set[int] = set()
    for module in network.modules():
        sizes = [getattr(module, "in_features", None)]
        sizes += [weight.shape[0] for weight in module.parameters(recurse=False) if weight.ndim == 1]
        for size in sizes:
            if isinstance(size, int) and size not in seen:
                seen.add(size)
                yield size

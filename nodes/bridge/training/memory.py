"""How a run uses the memory, chosen by an estimate before any of its models is loaded."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import comfy.model_management
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_iter, tree_map_only

from ....core.learning.adapter import is_eight_bit, make_adapters
from ....core.model.contracts import Conditioning
from ....core.model.schedule import NoiseSchedule
from ....core.store.runs import find_run
from ....core.training.memory import Activations, imagined, measure_activations
from ....core.training.memory_plan import MemoryPlan, Needs, choose, plans, refusal
from ....core.training.optimizer import STATE_BYTES
from ....core.training.prediction import is_bf16
from ....core.training.trained_parameters import DENOISER, adapter_configs
from ..model.conditions import conditions_of, joined
from ..model.denoiser import ComfyDenoiser
from ..model.gradients import (
    casting_layers,
    differentiable_kernels,
    free_memory,
    own_norm_inputs,
    training_dtype,
    training_options,
)
from ..model.latent_shapes import has_frames
from ..model.raw_prediction import predict
from ..model.storage import storage_of
from ..output import runs_root
from ..text.encoder import ComfyTextEncoder
from ..text.pictures import tokenize_with_pictures
from .plan import TrainerPlan
from .references import blank_references
from .what_trains import trained_modules

SHARED = ("cpu", "mps")
"""Devices that compute in the memory in which unloaded models lie."""
SMALLER = ((1, 1.0), (1, 0.75), (1, 0.5))
"""What is tried where nothing fits: batch, and share of the resolution."""


def memory_plan(plan: TrainerPlan) -> MemoryPlan | None:
    """The fastest way that fits; None where the network cannot be imagined, and is measured once it is loaded.

    Raises:
        InputError: none fits; says what would.
    """
    switch = plan.request.config.options.gradient_checkpointing
    needs = needs_of(plan)
    if needs is None:
        return None
    ways, free = plans(needs, switch), room(plan.request.model)
    run = find_run(runs_root(), plan.request.run_name, plan.key)
    chosen = choose(ways, free, run.ways_out_of_memory(free) if run else ())
    if chosen is None:
        raise refusal(ways, free, _what_fits(plan, free))
    return chosen


def room(model: Any) -> int:
    """Bytes on the MODEL's device that are free, or that ComfyUI frees by moving other models away."""
    device, management = model.load_device, comfy.model_management
    if device.type in SHARED:
        return free_memory(model)
    loaded = sum(entry.model_loaded_memory() for entry in management.current_loaded_models if entry.device == device)
    return int(free_memory(model) + loaded - management.extra_reserved_memory())


def needs_of(plan: TrainerPlan, batch: int | None = None, share: float = 1.0) -> Needs | None:
    """What a run needs; None where its network cannot be imagined.

    Args:
        batch: photos per step instead of the run's.
        share: of the resolution that is used.
    """
    request = plan.request
    rows = request.rows if batch is None else replace(request, config=replace(request.config, batch=batch)).rows
    try:
        with torch.inference_mode(False):
            learned, activations = _imagine(plan, rows, share)
    except Exception as reason:  # noqa: BLE001 - a network that asks for content: measured once it is loaded, as before
        logging.info("The memory of this run is not estimated beforehand: %s", reason)
        return None
    if request.model.load_device.type in SHARED:
        return Needs(weights=0, learned=learned, activations=activations)
    storage, text = storage_of(request.model), request.clip.patcher.model_size() if plan.learns_text else 0
    least = storage.resident_bytes + 2 * storage.largest_streamed_bytes + storage.largest_cast_bytes
    return Needs(weights=storage.stored_bytes + storage.largest_cast_bytes + text, learned=learned,
                 streamed_weights=least if _can_stream(plan) else None, activations=activations)


def _can_stream(plan: TrainerPlan) -> bool:
    """Whether nothing that trains needs the whole weights, and no text encoder stands beside the network."""
    configs = adapter_configs(plan.request.config.options)
    return not plan.learns_text and not any(configs[name].record.needs_whole_weights
                                            for name in trained_modules(plan.request))


def _what_fits(plan: TrainerPlan, free: int) -> str:
    """A sentence that says what would."""
    size, switch = plan.request.config.resolution, plan.request.config.options.gradient_checkpointing
    for batch, share in SMALLER:
        needs = needs_of(plan, batch, share)
        if needs is not None and choose(plans(needs, "auto"), free) is not None:
            pixels = int(size * share) // 64 * 64 or size
            settings = [*([f"a batch of {batch}"] if batch != plan.request.config.batch else []),
                        *([f"a resolution of {pixels}"] if share < 1 else []),
                        *(["gradient_checkpointing on auto"] if switch == "off" else [])]
            return f"This would fit: {' and '.join(settings) or 'closing other programs'}."
    return ("Close what else uses the memory, or load a smaller file of this model (fp8, weight_dtype fp8), and train "
            "at a lower resolution.")


def _imagine(plan: TrainerPlan, rows: int, share: float) -> tuple[int, Activations]:
    """Bytes of all that is learned with what belongs to it, and the activations of a step of so many rows."""
    request, options = plan.request, plan.request.config.options
    model, device = request.model, request.model.load_device
    latents = _largest_latents(plan, share)
    noisy = latents.unsqueeze(2) if has_frames(model.model) else latents
    size = int(request.config.resolution * share)
    row = conditions_of(model.model, _longest_row(plan, share), noisy, (size, size))
    schedule = ComfyDenoiser(model, size).schedule
    key = (type(model.model), _shapes(model.model.diffusion_model), _shapes_of(joined([row])), rows, noisy.shape,
           str(device), options.adapter, options.trains_denoiser, options.precision, plan.learns_text,
           training_dtype(model.model))
    if key not in _KNOWN:
        while len(_KNOWN) >= MOST_KNOWN:
            del _KNOWN[next(iter(_KNOWN))]
        _KNOWN[key] = _measured(plan, rows, noisy, joined([row] * rows), schedule)
    count, activations = _KNOWN[key]
    return _learned_bytes(plan, count), activations


MOST_KNOWN = 32
_KNOWN: dict[Any, tuple[int, Activations]] = {}
"""Estimates of this process, by all that they depend on."""


def _shapes(network: nn.Module) -> int:
    """A digest of what the network is made of."""
    kinds = tuple(type(part) for part in network.modules())
    return hash((kinds, tuple((tuple(weight.shape), weight.dtype) for weight in network.parameters())))


def _shapes_of(conditions: dict[str, Any]) -> tuple[Any, ...]:
    return tuple((name, *((tuple(leaf.shape), leaf.dtype) for leaf in tree_iter(value) if isinstance(leaf, Tensor)))
                 for name, value in sorted(conditions.items()))


def _measured(plan: TrainerPlan, rows: int, noisy: Tensor, given: dict[str, Any],
              schedule: NoiseSchedule) -> tuple[int, Activations]:
    """How many numbers the network's adapter learns, and what a step takes."""
    options, model = plan.request.config.options, plan.request.model
    device = model.load_device
    with _learning(plan) as adapters, FakeTensorMode(allow_non_fake_inputs=True) as fake, ExitStack() as stack:
        stack.enter_context(imagined(model.model.diffusion_model, partial(_without_content, model, device)))
        stack.enter_context(differentiable_kernels())
        stack.enter_context(own_norm_inputs(model.model))
        stack.enter_context(casting_layers(model.model, always=options.trains_full_weights))
        conditions = tree_map_only(Tensor, lambda tensor: _given(fake.from_tensor(tensor).to(device), plan.learns_text),
                                   given)
        stack.enter_context(torch.autocast(device.type, torch.bfloat16, enabled=is_bf16(options.precision, device)))

        def forward() -> Tensor:
            index = torch.zeros(rows, dtype=torch.long, device=device)
            return predict(model.model, torch.empty(rows, *noisy.shape[1:], device=device), index,
                           schedule.timesteps, training_options(), conditions).float()

        activations = measure_activations(forward, model.model.diffusion_model)
        count = sum(parameter.numel() for adapter in adapters.values() for parameter in adapter.parameters())
    return count, activations


def _given(tensor: Tensor, learns_text: bool) -> Tensor:
    """What the network reads beside the noise; gradients flow to the text through it where that learns."""
    return tensor.detach().requires_grad_(learns_text and tensor.is_floating_point())


def _learned_bytes(plan: TrainerPlan, count: int) -> int:
    """Parameters in float32, the optimiser's state, the averages; gradients are among the activations."""
    each = 4 + STATE_BYTES[plan.optimizer] + (4 if plan.request.config.options.ema_decay else 0)
    return each * count


@contextmanager
def _learning(plan: TrainerPlan) -> Iterator[dict[str, Any]]:
    """Within the context the run's adapter is in the network, and neither has any content."""
    network = plan.request.model.model.diffusion_model
    with imagined(network, lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")):
        owners: dict[str, Any] = {name: ComfyDenoiser(plan.request.model, 0)
                                  for name in trained_modules(plan.request) if name == DENOISER}
        for owner in owners.values():
            owner.device = torch.device("meta")
        adapters = make_adapters(owners, adapter_configs(plan.request.config.options), 0)
        try:
            yield adapters
        finally:
            for adapter in adapters.values():
                adapter.eject()


def _without_content(model: Any, device: torch.device, tensor: Tensor) -> Tensor:
    """A fake tensor as one lies on the device while it trains; 8-bit weights keep no cast for the backward pass, as if
    they were stored in what they are computed in."""
    is_cast = isinstance(tensor, nn.Parameter) and is_eight_bit(tensor)  # buffers may be indices
    dtype = training_dtype(model.model) if is_cast else tensor.dtype
    return torch.empty(tensor.shape, dtype=dtype, device=device)


def _largest_latents(plan: TrainerPlan, share: float) -> Tensor:
    """The latents (1, C, h, w) of the most pixels, without content."""
    data = plan.data
    shapes = [tuple(example.latents.shape) for example in data.examples]
    shapes += [tuple(pool.shape[1:]) for pool in data.class_latents.values()]
    channels, high, wide = max(shapes, key=lambda shape: shape[1] * shape[2])
    high, wide = (max(2, int(side * share) // 2 * 2) if share < 1 else side for side in (high, wide))
    return torch.zeros(1, channels, high, wide)


def _longest_row(plan: TrainerPlan, share: float) -> Conditioning:
    """The conditioning of the run's longest prompt, which the text encoder has encoded, or of its shape; beside the
    most that a photo has as references."""
    clip, shown = plan.request.clip, blank_references(plan.request, share)
    longest = max(plan.data.prompts(), key=lambda prompt: _tokens(clip, prompt))
    if shown is not None and shown.pictures:
        return text_shape(clip, longest, shown.pictures).beside(shown.conditions())
    encoder = ComfyTextEncoder(clip, cache=(runs_root(), plan.hashes.text_encoder))
    found = encoder.encoded(longest)
    if found is None:
        found = encoder.encode([longest])[0] if clip.patcher.load_device.type in SHARED else text_shape(clip, longest)
    return found if shown is None else found.beside(shown.conditions())


def _tokens(clip: Any, prompt: str) -> int:
    return max(sum(map(len, chunks)) for chunks in clip.tokenize(prompt).values())


def text_shape(clip: Any, prompt: str, pictures: Sequence[Tensor] = ()) -> Conditioning:
    """A row as the encoding of the prompt, beside pictures (H, W, 3), without its content and without loading the text
    encoder."""
    model = clip.cond_stage_model
    tokens = tokenize_with_pictures(clip, prompt, pictures) if pictures else clip.tokenize(prompt)
    with (torch.inference_mode(False), torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True),
          imagined(model, lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype))):
        model.reset_clip_options()
        model.set_clip_options({"layer": clip.layer_idx} if clip.layer_idx is not None else {})
        model.set_clip_options({"execution_device": torch.device("cpu")})
        try:
            context, pooled, *others = model.encode_token_weights(tokens)
        finally:
            model.reset_clip_options()
    shape: Callable[[Any], Any] = partial(tree_map_only, Tensor, _ones)
    return Conditioning(shape(context), shape(pooled), extra=shape(others[0]) if others else {})


def _ones(tensor: Tensor) -> Tensor:
    return torch.ones(tuple(tensor.shape), dtype=tensor.dtype)

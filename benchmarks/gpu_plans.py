"""Large models on the part of a card that people have: the fastest way that fits, its step and its memory; part of
`make gpu`.

The rest of the card is taken by a block of nothing, so that ComfyUI and the trainer see a card of 8, 10 or 12 GB.
Random weights at the published sizes; linear layers in scaled fp8, as most files have them, all else in bf16. The way
is chosen as the trainer's node chooses it (`core.training.memory_plan`), from an estimate in fake tensors.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gpu_card import card, clock, highest, milliseconds, release
from memory_plan import GOALS_GB, TOKENS, needs, network

if TYPE_CHECKING:
    from comfyui_personalize.core.training.memory_plan import MemoryPlan, Needs

log = logging.getLogger("gpu")

CASES = {"SDXL": "sdxl", "Flux.1": "flux", "Z-Image": "z_image", "Qwen-Image": "qwen_image"}
SIZE, RANK, PLAN_STEPS = 1024, 16, 6
LEAST = 256
"""Linear layers that are smaller on a side stay in bf16."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One model on its part of the card.

    Attributes:
        way: how it was trained.
        estimated_gb, measured_gb: what the estimate says is needed, and the card's high-water mark.
        step_ms: of a step, the median after a warm-up.
    """

    model: str
    goal_gb: float
    way: str = ""
    estimated_gb: float = math.nan
    measured_gb: float = math.nan
    step_ms: float = math.nan


def measure_plan(name: str, steps: int, *, is_rehearsal: bool) -> Outcome:
    """A few steps of a LoRA of rank 16 on a model that is stored in 8 bits, on the goal's part of the card."""
    rig = rig_of(name, is_rehearsal=is_rehearsal)
    with room_of(GOALS_GB[name]) as taken_gb:
        way = chosen(rig, no_needs() if is_rehearsal else needs_of(name, rig))
        log.info("%s in %d GB: %s", name, GOALS_GB[name], way.name)
        with clock() as times:
            train(rig, way, steps)
        found = Outcome(model=name, goal_gb=GOALS_GB[name], way=way.name, estimated_gb=way.needed / 2 ** 30,
                        measured_gb=highest() - taken_gb, step_ms=milliseconds(times))
    del rig
    release()
    return found


def no_needs() -> Needs:
    """Of a tiny network, which fits anywhere."""
    from comfyui_personalize.core.training.memory import Activations
    from comfyui_personalize.core.training.memory_plan import Needs

    return Needs(weights=0, learned=0, activations=Activations(kept=0, recomputed=0))


def needs_of(name: str, rig: Any) -> Needs:
    """Bytes of a step, by the shapes of the layers."""
    from comfyui_personalize.core.training.memory_plan import Needs
    from comfyui_personalize.nodes.bridge.model.storage import storage_of

    _, _, learned, activations = needs(name, SIZE, RANK)
    storage = storage_of(rig.model)
    least = storage.resident_bytes + 2 * storage.largest_streamed_bytes + storage.largest_cast_bytes
    return Needs(weights=storage.stored_bytes + storage.largest_cast_bytes, streamed_weights=least, learned=learned,
                 activations=activations)


def chosen(rig: Any, needs: Needs) -> MemoryPlan:
    """The fastest way that fits; the slowest where none does by the estimate."""
    from comfyui_personalize.core.training.memory_plan import choose, plans
    from comfyui_personalize.nodes.bridge.model.gradients import free_memory

    ways = plans(needs, "auto")
    return choose(ways, free_memory(rig.model), ()) or ways[-1]


def train(rig: Any, way: MemoryPlan, steps: int) -> None:
    """The real Trainer on one photo of noise."""
    from comfyui_personalize.benchmarks.every_family.training import trainer_on
    from comfyui_personalize.core.learning.adapter import AdapterConfig
    from comfyui_personalize.core.model.storage import Placement
    from comfyui_personalize.core.training.config import TrainingConfig, TrainingOptions
    from comfyui_personalize.nodes.bridge.model.gradients import trainable

    options = TrainingOptions(adapter=AdapterConfig(rank=RANK, alpha=float(RANK)), precision="auto",
                              gradient_checkpointing="on" if way.recomputes else "off")
    config = TrainingConfig(steps=steps, learning_rate=1e-4, batch=1, resolution=8 * rig.case.latent[-1],
                            options=options)
    with (trainable(rig.model, placement=Placement.STREAMED if way.streams else Placement.RESIDENT),
          trainer_on(rig, config) as trainer):
        for _ in trainer.steps():
            pass


@contextmanager
def room_of(goal_gb: float) -> Iterator[float]:
    """A card of so many GB: the rest is taken. Without a card nothing is. Yields the GB that are taken."""
    import torch

    release()
    taken = torch.empty(0, dtype=torch.uint8)
    if card() == "cuda":
        free, _ = torch.cuda.mem_get_info()
        taken = torch.empty(max(0, free - int(goal_gb * 2 ** 30)), dtype=torch.uint8, device="cuda")
    try:
        yield taken.nbytes / 2 ** 30
    finally:
        del taken
        release()


def rig_of(name: str, *, is_rehearsal: bool) -> Any:
    """The model with random weights, in memory, as ComfyUI's loader of diffusion models gives it."""
    import comfy.sd
    import torch

    from comfyui_personalize.benchmarks.every_family.cases import CASES as FAMILIES
    from comfyui_personalize.benchmarks.every_family.networks import build_model
    from comfyui_personalize.benchmarks.every_family.rig import Rig

    family = FAMILIES[CASES[name]]
    if is_rehearsal:
        return Rig(family, build_model(family))
    model, given, latent = network(name, SIZE)
    with torch.inference_mode():
        loaded = comfy.sd.load_diffusion_model_state_dict(stored(model.diffusion_model))
    width = given["context"]().shape[-1]
    pooled = given["y"]().shape[-1] if "y" in given else None
    return Rig(replace(family, text=texts(width, pooled), latent=latent[1:], lengths=(TOKENS[name],) * 2), loaded)


def texts(width: int, pooled: int | None) -> Any:
    """A text of the model's true width; SDXL's pooled output is what its sizes are put behind."""
    from comfyui_personalize.benchmarks.every_family.case import text

    return text(width, pooled=1280 if pooled == 2816 else pooled, padding=0 if width == 2560 else None)


def stored(module: Any) -> dict[str, Any]:
    """A file's tensors for a network on the meta device: linear layers in scaled fp8, all else in bf16."""
    import torch

    weights: dict[str, Any] = {}
    for name, like in module.state_dict().items():
        if like.ndim == 2 and name.endswith(".weight") and min(like.shape) >= LEAST:
            drawn = torch.randn(like.shape, device=card()).clamp_(-4, 4)
            weights[name] = (drawn * 100).to(torch.float8_e4m3fn).cpu()
            weights[f"{name}_scale"] = torch.tensor(0.01 / math.sqrt(like.shape[1]))
            mark = json.dumps({"format": "float8_e4m3fn"}).encode()
            weights[f"{name.removesuffix('weight')}comfy_quant"] = torch.tensor(list(mark), dtype=torch.uint8)
        elif like.ndim < 2:
            weights[name] = torch.full(like.shape, float(name.endswith(("weight", "scale"))), dtype=torch.bfloat16)
        else:
            fan_in = max(1, math.prod(like.shape[1:]))
            weights[name] = (torch.randn(like.shape, device=card()) / math.sqrt(fan_in)).bfloat16().cpu()
    return {file_name(name): value for name, value in weights.items()}


def file_name(name: str) -> str:
    """A weight's name in published files, by which ComfyUI knows the model: Flux calls its norms' gains scales."""
    return name.replace("_norm.weight", "_norm.scale") if "_blocks" in name else name


def report(outcomes: list[Outcome]) -> str:
    """A table of what was measured."""
    rows = "\n".join(f"| {one.model} | {one.goal_gb:.0f} | {one.way} | {one.estimated_gb:.2f} | {one.measured_gb:.2f} "
                     f"| {one.step_ms:.0f} |" for one in outcomes)
    return f"""
## Large models on a part of the card

Linear layers in scaled fp8, {SIZE} px, one row, LoRA of rank 16 on attention; the rest of the card was taken.

| model | GB of the card | way that was chosen | GB expected | GB measured | ms a step |
|---|---|---|---|---|---|
{rows}
"""

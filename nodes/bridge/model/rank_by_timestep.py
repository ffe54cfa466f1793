"""A LoRA in a MODEL whose rank goes by the timestep (T-LoRA, arXiv:2507.05964), as it was trained and as the authors
sample: computed beside the weights, with fewer of its ranks at more noise."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import comfy.lora
import comfy.lora_convert
import comfy.model_sampling
import torch
from comfy.patcher_extension import WrappersMP
from comfy.weight_adapter import BypassInjectionManager
from comfy.weight_adapter.lora import LoRAAdapter
from torch import Tensor

from ....core.errors import require
from ....core.learning.adapter import active_ranks, remaining_time
from ....core.model.schedule import NoiseSchedule
from .bypass import BYPASS, settle
from .denoiser import schedule_of_sampling

SMALLEST = 1e-9
"""Of sigmas whose logarithms are compared."""
WRAPPER = "personalize_rank_by_timestep"
"""Where the clone keeps the functions that learn of the timestep."""


def load_by_timestep(model: Any, lora: Mapping[str, Tensor], strength: float, min_rank: int) -> Any:
    """A clone of MODEL that computes a LoRA beside its weights, at each timestep with the ranks that act there.

    Args:
        lora: tensors of the network alone.
        min_rank: ranks at the highest noise.

    Raises:
        InputError: some layer is no plain LoRA.
    """
    patcher, now = model.clone(), Now()
    keys = comfy.lora.model_lora_keys_unet(patcher.model, {})
    manager = BypassInjectionManager()
    for key, adapter in comfy.lora.load_lora(comfy.lora_convert.convert_lora(dict(lora)), keys).items():
        require(isinstance(adapter, LoRAAdapter) and adapter.weights[3:] == (None, None, None), "file",
                f"a rank by timestep, and {key}, which is no plain LoRA", "LoRA layers alone", "Load another file.")
        manager.add_adapter(key, LoRAByTimestep(adapter, now, min_rank), strength=strength)
    injections = manager.create_injections(patcher.model)
    if manager.get_hook_count():
        patcher.set_injections(BYPASS, injections)
        patcher.add_wrapper_with_key(WrappersMP.APPLY_MODEL, WRAPPER, now.while_denoising)
    settle(patcher, model)
    return patcher


def has_rank_by_timestep(model: Any) -> bool:
    """Whether a MODEL has such a LoRA."""
    return bool(model.get_wrappers(WrappersMP.APPLY_MODEL, WRAPPER))


class Now:
    """The timesteps of the rows that are being denoised.

    Attributes:
        remaining: (T - t) / T, (N,), on the CPU; None outside of a forward.
    """

    def __init__(self) -> None:
        self.remaining: Tensor | None = None
        self._told: tuple[Any, Tensor, NoiseSchedule] | None = None

    def _levels(self, sampling: Any) -> tuple[Tensor, NoiseSchedule]:
        """Logarithms of the sigmas that stock samplers call the schedule's levels by, (T,), and the schedule; made
        once for each `model_sampling`."""
        if self._told is None or self._told[0] is not sampling:
            schedule = schedule_of_sampling(sampling)
            levels = schedule.sigmas.double()
            if not isinstance(sampling, comfy.model_sampling.CONST):
                levels = schedule.data_std * levels / schedule.alphas.double()
            self._told = sampling, levels.cpu().clamp(min=SMALLEST).log(), schedule
        return self._told[1:]

    def while_denoising(self, executor: Any, x: Tensor, sigmas: Tensor, *others: Any, **named: Any) -> Any:
        """ComfyUI's wrapper of one forward of the network."""
        levels, schedule = self._levels(executor.class_obj.model_sampling)
        given = sigmas.flatten()[:, None].cpu().double().clamp(min=SMALLEST).log()
        self.remaining = remaining_time(schedule, (levels - given).abs().argmin(dim=1))
        try:
            return executor(x, sigmas, *others, **named)
        finally:
            self.remaining = None


class LoRAByTimestep(LoRAAdapter):
    """ComfyUI's LoRA with the first r(t) of its ranks.

    Args:
        whole: the LoRA.
        now: says t.
        min_rank: r_min.
    """

    def __init__(self, whole: LoRAAdapter, now: Now, min_rank: int):
        super().__init__(whole.loaded_keys, whole.weights)
        self.now, self.min_rank = now, min_rank

    def h(self, x: Tensor, base_out: Tensor) -> Tensor:
        """What the LoRA adds to a layer's output (N, ...)."""
        if self.now.remaining is None:
            raise RuntimeError("rank by timestep: got a layer's forward outside of the model's own")
        ranks = active_ranks(len(self.weights[1]), self.min_rank, self.now.remaining)
        if bool((ranks == ranks[0]).all()):
            return self._first(int(ranks[0]), x, base_out)
        out = torch.empty_like(base_out)
        for rank in ranks.unique().tolist():
            rows = (ranks == rank).to(x.device)
            out[rows] = self._first(rank, x[rows], base_out[rows])
        return out

    def _first(self, rank: int, x: Tensor, base_out: Tensor) -> Tensor:
        """The same of the first ranks alone, at the whole LoRA's scale alpha / r."""
        up, down, alpha, *others = self.weights
        own = copy.copy(self)
        own.weights = (up[:, :rank], down[:rank], (alpha or len(down)) * rank / len(down), *others)
        return LoRAAdapter.h(own, x, base_out)

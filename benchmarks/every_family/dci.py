"""Does DCI sample with the family's network?"""

from __future__ import annotations

from typing import Any

import comfy.sample
import comfy.samplers
import torch
from torch import Tensor

from ...core.dci.config import DCIConfig
from ...core.dci.dbim import BranchTokens
from ...core.errors import InputError
from ...nodes.bridge.dci.dual_branch import patch_dual_branch
from ...nodes.bridge.dci.dual_prompt import CONDITIONING_KEY, DualPrompt
from .case import Entry, noise
from .rig import Rig, relative_error

LEAST_CHANGE = 1e-4


def dci(rig: Rig) -> str:
    """"works" where two steps with both branches give a finite picture that plain sampling does not; otherwise the
    words of the refusal."""
    try:
        patched = patch_dual_branch(rig.model, DCIConfig(omega=1.0, window=1.0))
    except InputError as refusal:
        return f"refused: {refusal}"
    plain, mixed = sample(rig, rig.model), sample(rig, patched)
    if not bool(mixed.isfinite().all()):
        return "fails: the picture is not finite"
    return "works" if relative_error(mixed, plain) > LEAST_CHANGE else "fails: the picture is that of plain sampling"


def dual_entry(rig: Rig) -> Entry:
    """The caption's conditioning with an auxiliary prompt inside: 'V noun' are its fifth and sixth token."""
    (context, beside), (other, other_beside) = rig.entries[0], rig.case.entry(8, rig.case.lengths[0])
    tokens = BranchTokens(length=context.shape[1], content=tuple(range(1, 10)), counted=(4, 5))
    extra = {name: value for name, value in other_beside.items() if name != "pooled_output"}
    prompt = DualPrompt(context, other, other_beside.get("pooled_output"), tokens, tokens, extra, given=tuple(beside))
    return context, beside | {CONDITIONING_KEY: prompt}


def sample(rig: Rig, model: Any) -> Tensor:
    """Two Euler steps at cfg 2 from pure noise; the positive prompt is the dual one."""
    with torch.inference_mode():
        sigmas = model.get_model_object("model_sampling").sigmas
        levels = torch.tensor([float(sigmas[-1]), float(sigmas[len(sigmas) // 2]), 0.0])
        latent = torch.zeros_like(rig.latent)
        return comfy.sample.sample_custom(
            model, noise(*latent.shape, seed=3), 2.0, comfy.samplers.sampler_object("euler"), levels,
            [list(dual_entry(rig))], [list(rig.case.entry(9, rig.case.lengths[0]))], latent, disable_pbar=True,
            seed=3).clone()

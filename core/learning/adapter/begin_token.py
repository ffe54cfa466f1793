"""Keys and values of the begin token as constants of the cross-attention (Custom Diffusion, arXiv:2212.04488; ICO, Jin
et al., ECCV 2024: both have it in their code, neither in the paper).

Much of every pixel's attention rests on the begin token, whatever the prompt says: what its key and value learned would
act in all prompts alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ...errors import require

KEYS_AND_VALUES = re.compile(r"(.*\.)?attn2\.(to_k|to_v)")


class BeginTokenDetached:
    """While it is in, no gradient goes through row 0 of K = W_k c and V = W_v c, neither to W nor to c; their values,
    and so every prediction, are the same. Nothing of it trains.

    It is made out; `inject` puts it in, behind adapters. A prompt of more than 77 tokens has further begin tokens,
    which are left alone, as in the authors' code.

    Args:
        module: a network with cross-attention.

    Raises:
        InputError: it has none.
    """

    def __init__(self, module: nn.Module):
        self.module = module
        self._paths = begin_token_paths(module)
        self._handles: list[RemovableHandle] = []

    def parameters(self) -> list[nn.Parameter]:
        return []

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Nothing to set."""

    def inject(self) -> None:
        """Hooks on the layers that are in now, adapters included; nothing happens where they are there already."""
        if not self._handles:
            self._handles = [self.module.get_submodule(path).register_forward_hook(_detach_first_row)
                             for path in self._paths]

    def eject(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def after_step(self) -> None:
        """Nothing."""


def begin_token_paths(module: nn.Module) -> tuple[str, ...]:
    """The layers that make keys and values of a text.

    Raises:
        InputError: there is none.
    """
    paths = tuple(path for path, _ in module.named_modules() if KEYS_AND_VALUES.fullmatch(path))
    require(bool(paths), "detach_begin_token", f"{type(module).__name__}, which has no cross-attention",
            "a network with layers attn2.to_k and attn2.to_v", "Turn it off: image and text attend jointly here.")
    return paths


def _detach_first_row(_: nn.Module, __: Any, rows: Tensor) -> Tensor:
    """(B, T, D) with row 0 a constant."""
    return torch.cat([rows[:, :1].detach(), rows[:, 1:]], dim=1)

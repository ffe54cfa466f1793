"""What training asks of a machine: device, autocast, memory format, and as many rendering workers as it has cores."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where training runs."""

    device: torch.device
    workers: int
    is_compiled: bool = False

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    def autocast(self) -> AbstractContextManager[None]:
        """bfloat16 matrix products and convolutions."""
        return torch.autocast(self.device.type, torch.bfloat16)

    def place(self, network: nn.Module) -> nn.Module:
        """The network on the device, its kernels in channels_last order."""
        return network.to(self.device, memory_format=torch.channels_last)

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function (a network, or a method of one), compiled where that was asked for."""
        return torch.compile(function) if self.is_compiled else function

    def send(self, tensor: Tensor) -> Tensor:
        """The tensor on the device, copied while other work goes on."""
        return tensor.to(self.device, non_blocking=True) if self.is_cuda else tensor

    def pictures(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> [0, 1], channels_last."""
        return self.send(pixels).to(memory_format=torch.channels_last).float().div_(255)


def find_machine(device: str = "auto", workers: int = -1, is_compiled: bool = False) -> Machine:
    """The machine as asked: 'auto' takes CUDA where it is; -1 workers are all cores but two on CUDA, none on a CPU."""
    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if workers < 0:
        workers = max(1, (os.cpu_count() or 4) - 2) if name == "cuda" else 0
    if name == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    return Machine(device=torch.device(name), workers=workers, is_compiled=is_compiled)

"""OFT (arXiv:2306.07280): W R^T with block-diagonal rotations R; the rank is the size of a block."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from ....errors import require
from ..base_weight import NAME, base_weight
from .record import Kind, Tensors, is_linear_or_convolution, zero

if TYPE_CHECKING:
    from peft import PeftConfig


def _config(rank: int, _: float, layers: str) -> PeftConfig:
    from peft import OFTConfig

    return OFTConfig(oft_block_size=rank, target_modules=layers, use_cayley_neumann=False)


def _takes(layer: nn.Module) -> bool:
    """Wide convolutions are left out: peft's rotation of them is not the identity at its start."""
    return is_linear_or_convolution(layer) and not (isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1))


def _check(path: str, layer: nn.Module, rank: int) -> None:
    """Blocks fill a layer's inputs."""
    if isinstance(layer, nn.Linear | nn.Conv2d):
        width = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
        require(width % rank == 0 and rank > 1, "rank", rank,
                f"a block size above 1 that divides {width}, the inputs of layer {path}", "Use for example 4 or 8.")


def _change(layer: nn.Module) -> Tensor:
    """W R^T - W."""
    weight = base_weight(layer)
    rotation: Tensor = layer.get_delta_weight(NAME).float()  # type: ignore[operator]
    return (weight.flatten(1) @ rotation.T).view_as(weight) - weight


def _export(layer: nn.Module, _: Tensors, __: float) -> Tensors:
    """The difference itself: peft rotates a layer's inputs, the files' OFT its outputs."""
    return {"diff": _change(layer)}


OFT = Kind(name="oft", peft_config=_config, starts={"oft_R": zero}, export=_export, takes=_takes, check_rank=_check,
           needs_whole_weights=True, change=_change)

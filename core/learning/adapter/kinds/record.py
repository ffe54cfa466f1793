"""What is known of one way to learn a layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ....errors import require
from ..base_weight import NAME

if TYPE_CHECKING:
    from peft import PeftConfig

Tensors = dict[str, Tensor]

COMFYUI = "ComfyUI: LoraLoader and LoadPersonalization"
DIFFUSERS = "diffusers: load_lora_weights"
SD_SCRIPTS = "kohya's sd-scripts and programs that read its LoRA files"
LYCORIS = "programs that read LyCORIS files"


def _any_rank(path: str, layer: nn.Module, rank: int) -> None:
    """Every rank fits every layer."""


def _delta_weight(layer: nn.Module) -> Tensor:
    """As peft computes it."""
    delta: Tensor = layer.get_delta_weight(NAME)  # type: ignore[operator]
    return delta


def is_linear(layer: nn.Module) -> bool:
    """Whether a layer is y = W x + b, of torch's class or, as in quantised networks, of one that has its attributes."""
    sides = [getattr(layer, name, None) for name in ("out_features", "in_features")]
    weight = layer._parameters.get("weight")
    return isinstance(layer, nn.Linear) or weight is not None and list(weight.shape) == sides


def is_linear_or_convolution(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) or is_linear(layer)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One way to learn a layer.

    Attributes:
        name: in widgets, configs and files.
        peft_config: (rank, alpha, a pattern of layers) -> peft's config, imported late: peft takes seconds.
        starts: for each prefix of peft's names of tensors, the value that they start with, made of the peft layer, so
            that a new adapter changes nothing. Tensors without one are drawn.
        export: (the peft layer, its tensors, alpha) -> tensors by the last part of their names in files.
        takes: whether a module is of those that can learn this way.
        check_rank: raises `InputError` for a rank that a layer cannot have.
        needs_whole_weights: whether it changes a weight by more than a sum, or as a whole: 8 bits cannot hold that.
        can_mask_rank: whether its rank is the width between two projections, of which some can be switched off.
        change: (the peft layer) -> what it adds to its weight.
        programs: that read its files for any base model; ComfyUI alone where they are exact for their own base only.
        layers: what its targets are called in messages, unless every layer is asked for.
    """

    name: str
    peft_config: Callable[[int, float, str], PeftConfig]
    starts: Mapping[str, Callable[[nn.Module], Tensor | float]]
    export: Callable[[nn.Module, Tensors, float], Tensors]
    takes: Callable[[nn.Module], bool] = is_linear_or_convolution
    check_rank: Callable[[str, nn.Module, int], None] = _any_rank
    needs_whole_weights: bool = False
    can_mask_rank: bool = False
    change: Callable[[nn.Module], Tensor] = _delta_weight
    programs: tuple[str, ...] = (COMFYUI,)
    layers: str = "linear layer"


def number(alpha: float) -> Any:
    """peft's annotations say int; its arithmetic takes any number."""
    return alpha


def zero(_: nn.Module) -> float:
    return 0.0


def check_low_rank(path: str, layer: nn.Module, rank: int) -> None:
    """B A has no more than the smaller side of its weight."""
    if is_linear(layer):
        limit = min(int(layer.in_features), int(layer.out_features))  # type: ignore[arg-type]
        require(rank <= limit, "rank", rank, f"at most {limit}, the smaller side of layer {path}",
                f"Use {limit}, or other targets.")

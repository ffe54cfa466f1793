"""What of the loaded models trains, and everything about it that can be known before they are loaded."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from ....core.errors import require
from ....core.learning.adapter import (
    AdapterConfig,
    begin_token_paths,
    find_all_targets,
    readers,
    readers_of_layers,
    trained_bytes,
)
from ....core.objectives.base import Objective
from ....core.training.learned_parts import DENOISER, TEXT_ENCODER, adapter_configs
from ....core.training.optimizer import STATE_BYTES, check_optimizer, choose_optimizer
from ..model.families import check_targets, readers_in_family
from ..text.encoder import check_trainable
from .request import Request


def trained_modules(request: Request) -> dict[str, nn.Module]:
    """The networks that learn, by the name of their part."""
    modules: dict[str, nn.Module] = {}
    if request.config.options.trains_denoiser:
        modules[DENOISER] = request.model.model.diffusion_model
    if request.config.options.text_encoder_rate > 0:
        modules[TEXT_ENCODER] = request.clip.cond_stage_model
    return modules


def check_what_trains(request: Request) -> None:
    """Raise `InputError` for layers, ranks and optimisers that cannot be used with the models and this machine."""
    modules, configs = trained_modules(request), _configs(request)
    require(bool(modules) or _learns_words(request), "training", "nothing that trains", "a network or token vectors",
            "Turn on training of the diffusion model, or connect token vectors.")
    if DENOISER in modules:
        check_targets(request.model, configs[DENOISER].targets)
    if TEXT_ENCODER in modules:
        check_trainable(request.clip)
    if request.config.options.detach_begin_token:
        begin_token_paths(request.model.model.diffusion_model)
    find_all_targets(modules, configs)
    check_optimizer(request.config, request.model.load_device.type)


def optimizer_name(request: Request) -> str:
    """The optimiser that "auto" stands for on the MODEL's device."""
    return choose_optimizer(request.config.options, request.model.load_device.type)


def full_weights_memory(request: Request) -> int:
    """Bytes that full weights take beside the loaded models: float32 copies, gradients, the optimiser's state."""
    configs = _configs(request)
    return sum(trained_bytes(module, configs[name], STATE_BYTES[optimizer_name(request)])
               for name, module in trained_modules(request).items() if configs[name].is_full)


def readers_of_result(request: Request, names: Iterable[str]) -> str:
    """Programs that read the run's file, whose tensors have these names; with several kinds in it those that read every
    one of them."""
    kinds = [_configs(request)[name].kind for name in trained_modules(request)]
    lists = [readers(kind) for kind in kinds or ["lora"]]
    common = [reader for reader in lists[0] if all(reader in other for other in lists)]
    return "; ".join(readers_of_layers(readers_in_family(request.model, common), names))


def _learns_words(request: Request) -> bool:
    config = request.config
    return bool(config.token_vectors) or any(type(objective).token_vectors is not Objective.token_vectors
                                             for objective in config.objectives)


def _configs(request: Request) -> dict[str, AdapterConfig]:
    return adapter_configs(request.config.options)

"""What of the loaded models trains, and everything about it that can be known before they are loaded."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import nn

from ....core.errors import require
from ....core.learning.adapter import (
    RANK_BY_TIMESTEP,
    AdapterConfig,
    begin_token_paths,
    find_all_targets,
    programs_for_kind,
    trained_bytes,
)
from ....core.learning.adapter.kinds import COMFYUI
from ....core.training.optimizer import STATE_BYTES, check_optimizer
from ....core.training.trained_parameters import DENOISER, TEXT_ENCODER, adapter_configs
from ..model.families import check_targets, programs_for_family
from ..text.encoder import learns_vectors
from ..text.trainable_encoders import check_trainable
from .request import Request


def trained_modules(request: Request) -> dict[str, nn.Module]:
    """The networks that learn, by the name of their part."""
    modules: dict[str, nn.Module] = {}
    if request.config.options.trains_denoiser:
        modules[DENOISER] = request.model.model.diffusion_model
    if request.config.options.text_encoder_rate > 0:
        modules[TEXT_ENCODER] = request.clip.cond_stage_model
    return modules


def check_what_trains(request: Request, modules: Mapping[str, nn.Module]) -> None:
    """Raise `InputError` for layers, ranks and optimisers that cannot be used with the models and this machine."""
    configs = adapter_configs(request.config.options)
    require(bool(modules) or request.config.learns_vectors, "training", "nothing that trains",
            "a network or token vectors", "Turn on training of the diffusion model, or connect token vectors.")
    if DENOISER in modules:
        check_targets(request.model, configs[DENOISER].targets)
    if TEXT_ENCODER in modules:
        check_trainable(request.clip)
    if request.config.options.detach_begin_token:
        begin_token_paths(request.model.model.diffusion_model)
    find_all_targets(modules, configs)
    check_optimizer(request.config, request.model.load_device.type)


def full_weights_memory(modules: Mapping[str, nn.Module], configs: Mapping[str, AdapterConfig], optimizer: str) -> int:
    """Bytes that full weights take beside the loaded models: float32 copies, gradients, the optimiser's state."""
    return sum(trained_bytes(module, configs[name], STATE_BYTES[optimizer])
               for name, module in modules.items() if configs[name].is_full)


def compatible_programs(request: Request, names: Collection[str]) -> tuple[str, ...]:
    """Programs that read what networks of these names learn; of several kinds in one file those that read them all."""
    if request.config.options.min_rank and DENOISER in names:
        return (RANK_BY_TIMESTEP,)
    configs = adapter_configs(request.config.options)
    lists = [programs_for_kind(configs[name].kind) for name in names] or [programs_for_kind("lora")]
    common = [program for program in lists[0] if all(program in other for other in lists)]
    if TEXT_ENCODER in names and not learns_vectors(request.clip):  # T5 and language models have ComfyUI's names alone
        common = [program for program in common if program == COMFYUI]
    return tuple(programs_for_family(request.model, common))

"""A second MODEL that samples with what was learned in the first: a distilled one where its base is trained (Krea 2
Turbo for Raw), or the one that a training adapter was left out of (Z-Image Turbo, Flux.1 schnell)."""

from __future__ import annotations

from typing import Any

from torch import nn

from ....core.errors import InputError, require
from ....core.training.trained_parameters import DENOISER, adapter_configs
from ..model.denoiser import schedule_of
from ..model.families import family_of
from .request import Request

NAME = "sample_with"
EXPECTED = "the layers of the MODEL that is trained, in which what is learned has its place"
FIX = ("Connect a checkpoint of the same architecture, for example the distilled one of the base that is trained, or "
       "leave sample_with empty.")
Shapes = dict[str, dict[str, tuple[int, ...]]]


def check_sample_with(request: Request) -> None:
    """Raise `InputError` unless what is learned fits the MODEL that samples.

    Every layer that learns must be in both, and layers that both have must be of one shape. Layers beside them may
    differ, as those of guidance do in Flux.1 dev and schnell.
    """
    if request.sample_with is None:
        return
    trained, sampling = (model.model.diffusion_model for model in (request.model, request.sample_with))
    require(type(trained) is type(sampling), NAME,
            f"a model of the kind {family_of(request.sample_with).name}, {type(sampling).__name__}",
            f"one of the kind that is trained: {family_of(request.model).name}, {type(trained).__name__}", FIX)
    mine, other = shapes_of(trained), shapes_of(sampling)
    learned = set[str]()
    if request.config.options.trains_denoiser:
        learned.update(adapter_configs(request.config.options)[DENOISER].find({**mine, **other}))
    for path in dict.fromkeys([*mine, *other]):
        _check_layer(path, mine.get(path), other.get(path), path in learned)


def shapes_of(network: nn.Module) -> Shapes:
    """Of each layer with parameters of its own their shapes by name."""
    found = {path: {name: tuple(parameter.shape) for name, parameter in layer.named_parameters(recurse=False)}
             for path, layer in network.named_modules()}
    return {path: shapes for path, shapes in found.items() if shapes}


def _check_layer(path: str, mine: dict[str, tuple[int, ...]] | None, other: dict[str, tuple[int, ...]] | None,
                 learns: bool) -> None:
    if mine is None or other is None:
        where = "no layer" if other is None else "a layer, which the trained one has not,"
        require(not learns, NAME, f"a model with {where} {path}", EXPECTED, FIX)
        return
    for name in mine.keys() & other.keys():
        require(mine[name] == other[name], NAME, f"a model whose layer {path} has a {name} of {_told(other[name])} (in "
                f"the trained one it is {_told(mine[name])})", EXPECTED, FIX)


def _told(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "one number"


def warnings_about_sampling(request: Request) -> list[str]:
    """What will disappoint in pictures of the MODEL that samples, although the layers fit."""
    if request.sample_with is None:
        return []
    mine, other = _prediction(request.model), _prediction(request.sample_with)
    if mine is None or other is None or mine == other:
        return []
    return [f"the trained MODEL predicts {mine}, and the one that samples {other}: what is learned in the one means "
            "little in the other. Sample with a checkpoint of the same prediction"]


def _prediction(model: Any) -> str | None:
    """What a MODEL predicts; None where it cannot be said."""
    try:
        return schedule_of(model).prediction
    except InputError:
        return None

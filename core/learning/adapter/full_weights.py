"""All weights of a network, or of some of its layers, train themselves (DreamBooth, arXiv:2208.12242; Custom Diffusion,
arXiv:2212.04488: keys and values of the cross-attention).

The loaded weights stay where they are; float32 copies train in their place, so that a step of 1e-6 is not rounded away
in fp16 or bf16, and `eject` gives back the very same tensors. Memory beside the loaded model: 8 bytes per trained
parameter (copy and gradient), and the optimiser's state (`optimizer.STATE_BYTES`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from ...errors import require
from .config import AdapterConfig
from .frozen import Freezer
from .targets import find_targets

COPY_AND_GRADIENT_BYTES = 8
_SUFFIXES = {"weight": "diff", "bias": "diff_b"}


class FullWeights:
    """Float32 copies of a module's own parameters, in their place.

    Args:
        module: the network; parameters that the config does not name are frozen while the copies are in.
        config: of the kind "full".
        keys: for each module path the stem of its keys in files, for a parameter that is neither weight nor bias its
            own. What has no name there (CLIP's unused `logit_scale`) does not train, for nobody could load it.

    Raises:
        InputError: no parameter matches, or a weight is stored in 8 bits.
    """

    def __init__(self, module: nn.Module, config: AdapterConfig, keys: Mapping[str, str]):
        self.module, self.config = module, config
        self._freezer = Freezer(module)
        self._copies: dict[str, nn.Parameter] = {}
        self._base: dict[str, nn.Parameter] = {}
        shared: dict[int, nn.Parameter] = {}  # tied weights train as one
        for name, parameter in _named_parameters(module, config, keys):
            if id(parameter) not in shared:
                shared[id(parameter)] = nn.Parameter(parameter.detach().to(torch.float32, copy=True))
            self._copies[name] = shared[id(parameter)]
        require(bool(self._copies), "targets", f"{config.targets!r}, which matches nothing that files have names for",
                "weights and biases that other programs know", "Use all.")
        self._reference: dict[str, nn.Parameter] = {}
        self.inject()

    @property
    def paths(self) -> tuple[str, ...]:
        """Names of the parameters that train."""
        return tuple(self._copies)

    def inject(self) -> None:
        """Put the copies in; nothing happens where they are in already."""
        if not self._base:
            self._base = {name: self._get(name) for name in self._copies}  # a preview may have renewed them
            self._reference = self._base
            for name, copy in self._copies.items():
                self._set(name, copy)
        self._freezer.freeze(self.parameters())

    def eject(self) -> None:
        """Put the loaded weights back; nothing happens where they are back already."""
        for name, parameter in self._base.items():
            self._set(name, parameter)
        self._base = {}
        self._freezer.thaw()

    def after_step(self) -> None:
        """Nothing."""

    def parameters(self) -> list[nn.Parameter]:
        """What trains, always in the same order."""
        return list(dict.fromkeys(self._copies.values()))

    def state_dict(self) -> dict[str, Tensor]:
        """The weights as they are now, whole and in float32."""
        return {name: copy.detach().clone() for name, copy in self._copies.items()}

    @torch.no_grad()
    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Set every tensor that `state_dict` gives.

        Raises:
            InputError: names or shapes are another model's.
        """
        own = self._copies
        fits = own.keys() == tensors.keys() and all(own[name].shape == tensors[name].shape for name in own)
        require(fits, "weights", "tensors of other layers or shapes", f"the {len(own)} tensors of this model",
                "Load what the same model and targets saved.")
        for name, copy in own.items():
            copy.copy_(tensors[name])

    @torch.no_grad()
    def export(self, keys: Mapping[str, str]) -> dict[str, Tensor]:
        """What was added to every weight, in the loaded weight's own precision where that is half; weights that have
        not moved are left out.

        Args:
            keys: as above.
        """
        tensors = {}
        for name, copy in self._copies.items():
            base = self._reference[name].detach()
            difference = copy.detach() - base.float()
            if difference.any():
                dtype = base.dtype if base.element_size() == 2 else torch.float32
                tensors[str(export_key(name, keys))] = difference.to("cpu", dtype)
        return tensors

    @torch.no_grad()
    def relative_changes(self) -> list[float]:
        """||dW|| / ||W|| of every matrix that trains."""
        changes = []
        for name, copy in self._copies.items():  # one after the other: together they would be a second model
            if copy.ndim > 1:
                base = self._reference[name].float()
                changes.append(float((copy - base).norm() / base.norm().clamp(min=1e-12)))
        return changes

    def _get(self, name: str) -> nn.Parameter:
        return self.module.get_parameter(name)

    def _set(self, name: str, parameter: nn.Parameter) -> None:
        path, _, last = name.rpartition(".")
        self.module.get_submodule(path)._parameters[last] = parameter


def export_key(name: str, keys: Mapping[str, str]) -> str | None:
    """The name of a parameter's difference in a file that stock LoraLoader reads."""
    if name in keys and name.rpartition(".")[2] not in _SUFFIXES:
        return f"{keys[name]}.diff"
    path, _, last = name.rpartition(".")
    return f"{keys[path]}.{_SUFFIXES[last]}" if last in _SUFFIXES and path in keys else None


def trained_bytes(module: nn.Module, config: AdapterConfig, state_bytes: int) -> int:
    """Bytes that training takes beside the loaded model and the activations."""
    parameters = {id(parameter): parameter.numel() for part in find_targets(module, config).values()
                  for parameter in part.parameters(recurse=False)}
    return sum(parameters.values()) * (COPY_AND_GRADIENT_BYTES + state_bytes)


def _named_parameters(module: nn.Module, config: AdapterConfig,
                      keys: Mapping[str, str]) -> Iterator[tuple[str, nn.Parameter]]:
    for path, part in find_targets(module, config).items():
        for last, parameter in part.named_parameters(recurse=False):
            name = f"{path}.{last}" if path else last
            if export_key(name, keys) is not None:
                yield name, parameter

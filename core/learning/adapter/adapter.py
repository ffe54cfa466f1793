"""An adapter inside a loaded network, put in and out again.

peft makes the layers; this file puts them in and out, and hands out what trains.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from ...errors import require
from .base_weight import base_weight
from .config import AdapterConfig
from .export import export_layer
from .frozen import Freezer
from .layers import initialise, named_tensors, put_layers_into
from .targets import find_targets


class Adapter:
    """An adapter in every targeted layer of one module. Reversible: `eject` restores the very same base
    modules, `inject` puts the very same adapter modules back; a context manager ejects it at the end.

    Args:
        module: the network; its parameters are frozen while the adapter is in.
        config: kind, rank, alpha, targets; not the kind "full".
        seed: what makes a new adapter change nothing starts at zero, the rest as peft starts it, from a generator of
            this seed and the layer's path.
        device: where it computes, for layers that may be elsewhere until they are needed; None: where they are.

    Raises:
        InputError: no layer matches, or one of them cannot take the adapter.
    """

    def __init__(self, module: nn.Module, config: AdapterConfig, seed: int, device: torch.device | None = None):
        self.module, self.config = module, config
        self._base = find_targets(module, config)
        self._layers: dict[str, nn.Module] = {}
        self._freezer = Freezer(module)
        self._freezer.freeze()
        try:
            put_layers_into(module, self._base, config)
            self._layers = {path: module.get_submodule(path) for path in self._base}
            for path, layer in self._layers.items():
                layer.training = False  # peft's LoKr and LoHa draw in each forward for a dropout that is not asked for
                initialise(layer, config.record, seed, path, device)
        except BaseException:
            self.eject()
            raise

    def __enter__(self) -> Adapter:
        return self

    def __exit__(self, *_: object) -> None:
        self.eject()

    @property
    def paths(self) -> tuple[str, ...]:
        """Module paths of the adapted layers."""
        return tuple(self._base)

    @property
    def layers(self) -> tuple[nn.Module, ...]:
        """peft's layers."""
        return tuple(self._layers.values())

    def inject(self) -> None:
        """Put the adapter in; nothing happens where it is in already."""
        self._freezer.freeze(self.parameters())
        for path, layer in self._layers.items():
            _set_submodule(self.module, path, layer)

    def eject(self) -> None:
        """Take the adapter out; nothing happens where it is out already."""
        for path, base in self._base.items():
            _set_submodule(self.module, path, base)
        self._freezer.thaw()

    def after_step(self) -> None:
        """Nothing."""

    def leave_casts_to_autocast(self) -> None:
        """Keep peft from copying every input to float32 first, which autocast would copy back and keep."""
        for layer in self._layers.values():
            layer.cast_input_dtype_enabled = False  # type: ignore[assignment]

    def parameters(self) -> list[nn.Parameter]:
        """What trains, always in the same order."""
        return [parameter for _, parameter in self._named_parameters()]

    def state_dict(self) -> dict[str, Tensor]:
        """The adapter's own tensors under `<path>.<peft's name>`, such as `<path>.lora_A.weight`."""
        return {name: parameter.detach().clone() for name, parameter in self._named_parameters()}

    @torch.no_grad()
    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Set every tensor that `state_dict` gives.

        Raises:
            InputError: names or shapes are another adapter's.
        """
        own = dict(self._named_parameters())
        fits = own.keys() == tensors.keys() and all(own[name].shape == tensors[name].shape for name in own)
        require(fits, "adapter", "tensors of other layers or ranks",
                f"the {len(own)} tensors of this adapter", "Load what the same model, kind and rank saved.")
        for name, parameter in own.items():
            parameter.copy_(tensors[name])

    def export(self, keys: Mapping[str, str]) -> dict[str, Tensor]:
        """Tensors under the names that other programs read.

        Args:
            keys: for each module path the stem of its keys.
        """
        return {f"{keys[path]}.{name}": tensor for path, layer in self._layers.items()
                for name, tensor in export_layer(self.config.record, layer, self.config.alpha).items()}

    @torch.no_grad()
    def relative_changes(self) -> list[float]:
        """||dW|| / ||W|| of every adapted layer."""
        change = self.config.record.change
        return [float(change(layer).float().norm() / base_weight(layer).norm().clamp(min=1e-12))
                for layer in self._layers.values()]

    def _named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        for path, layer in self._layers.items():
            for name, parameter in named_tensors(layer):
                yield f"{path}.{name}", parameter


def _set_submodule(root: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    root.get_submodule(parent)._modules[name] = module

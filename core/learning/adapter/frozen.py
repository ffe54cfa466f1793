"""Everything of a module that does not train asks for no gradient, for as long as something else of it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn


class Freezer:
    """Turns gradients off and back on.

    Args:
        module: the network.
    """

    def __init__(self, module: nn.Module):
        self.module = module
        self._frozen: list[nn.Parameter] = []

    def freeze(self, trained: Sequence[nn.Parameter] = ()) -> None:
        """Every parameter but those that train; inference tensors never get a gradient anyway."""
        own = set(trained)
        found = [parameter for parameter in self.module.parameters()
                 if parameter.requires_grad and parameter not in own and not parameter.is_inference()]
        for parameter in found:
            parameter.requires_grad_(False)
        self._frozen += found

    def thaw(self) -> None:
        """As it was before."""
        for parameter in self._frozen:
            parameter.requires_grad_(True)
        self._frozen = []


class Frozen:
    """A module of which nothing trains, beside those that do."""

    def __init__(self, module: nn.Module):
        self.module = module
        self._freezer = Freezer(module)

    def parameters(self) -> list[nn.Parameter]:
        return []

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Nothing to set."""

    def inject(self) -> None:
        self._freezer.freeze()

    def eject(self) -> None:
        self._freezer.thaw()

    def after_step(self) -> None:
        """Nothing."""

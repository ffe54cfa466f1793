"""Every kind is one record, and a new one needs nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.learning.adapter import KINDS, Adapter, AdapterConfig, FullWeights


class OneLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x):
        return self.layer(x)


@pytest.mark.parametrize("name", [name for name in KINDS if name != "full"])
def test_a_new_adapter_of_every_kind_changes_nothing(name):
    network, x = OneLayer(), torch.randn(3, 8)
    plain = network(x)
    with Adapter(network, AdapterConfig(kind=name, rank=4, alpha=2.0, targets="all"), 0) as adapter:
        assert torch.allclose(network(x), plain, atol=1e-6)
        assert adapter.parameters()
    assert torch.equal(network(x), plain)


def test_the_order_of_kinds_is_the_widgets():
    assert list(KINDS) == ["lora", "rslora", "dora", "lokr", "loha", "oft", "full"]
    assert all(name == kind.name for name, kind in KINDS.items())


@pytest.mark.parametrize("kind", ["", "LORA", None, 3, ["lora"], {}])
def test_a_kind_that_is_none_is_refused_with_their_names(kind):
    with pytest.raises(InputError, match="adapter kind: got .*, expected one of lora, rslora"):
        AdapterConfig(kind=kind)


@pytest.mark.parametrize("name", list(KINDS))
def test_the_relative_change_is_that_of_the_layers_function(name):
    """||dW|| / ||W||, with dW read off the layer's outputs on the unit vectors."""
    network = OneLayer()
    weight = network.layer.weight.detach().clone()
    config = AdapterConfig(kind=name, rank=4, alpha=2.0, targets="all")
    keys = {"layer": "layer"}
    part = FullWeights(network, config, keys) if name == "full" else Adapter(network, config, 0)
    generator = torch.Generator().manual_seed(1)
    moved = {key: value + 0.1 * torch.randn(value.shape, generator=generator)
             for key, value in part.state_dict().items() if "magnitude" not in key}
    part.load_state_dict(part.state_dict() | moved)
    unit = torch.eye(8)
    with torch.no_grad():
        changed = (network(unit) - network(torch.zeros(1, 8))).T
    (change,) = part.relative_changes()
    part.eject()
    if name == "dora":  # the direction's change, before its rows are brought to their size
        assert change > 0.01
    else:
        assert change == pytest.approx(float((changed - weight).norm() / weight.norm()), rel=1e-4)

"""Every kind is one record, and a new one needs nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.learning.adapter import KINDS, Adapter, AdapterConfig


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

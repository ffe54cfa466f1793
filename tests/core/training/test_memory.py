"""What a step takes is known beforehand, from shapes alone: the same figures as of the real step, and nothing runs."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import torch
from tiny_unet import CONTEXT, tiny_unet
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from comfyui_personalize.core.learning.adapter import Adapter, AdapterConfig
from comfyui_personalize.core.training.gradient_checkpointing import checkpointed, find_blocks
from comfyui_personalize.core.training.memory import LiveBytes, imagined, measure_activations

TOLERANCE = 0.15


def without_content(tensor):
    return torch.empty(tensor.shape, dtype=tensor.dtype)


def estimated(module, forward):
    with FakeTensorMode(allow_non_fake_inputs=True), imagined(module, without_content):
        return measure_activations(forward, module)


def measured(module, forward, recomputes):
    """Bytes at the highest point of the real step."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    with ExitStack() as stack:
        if recomputes:
            stack.enter_context(checkpointed(find_blocks(module)))
        live = stack.enter_context(LiveBytes())
        forward().square().mean().backward()
    for parameter in trained:
        parameter.grad = None
    return live.highest


class Block(nn.Module):
    """A residual block, which may add to its input in place, as Flux's do."""

    def __init__(self, width=32, in_place=False):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.in_place, self.calls = in_place, 0

    def forward(self, rows):
        self.calls += 1
        change = self.down(nn.functional.gelu(self.up(self.norm(rows.clone() if self.in_place else rows))))
        return rows.add_(change) if self.in_place else rows + change


class Stack(nn.Module):
    """Blocks of one shape between two layers."""

    def __init__(self, depth=6, learns=False, **block):
        super().__init__()
        width = block.get("width", 32)
        self.first, self.last = nn.Linear(8, width), nn.Linear(width, 8)
        self.blocks = nn.ModuleList(Block(**block) for _ in range(depth))
        self.requires_grad_(learns)
        self.first.bias.requires_grad_(True)

    def forward(self, rows):
        rows = self.first(rows)
        for block in self.blocks:
            rows = block(rows)
        return self.last(rows)


@pytest.mark.parametrize("recomputes", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("in_place", [False, True], ids=["out of place", "in place"])
def test_a_stack_of_blocks_takes_what_is_estimated(in_place, recomputes):
    module = Stack(in_place=in_place)

    def forward():
        return module(torch.zeros(2, 256, 8))

    found = estimated(module, forward)
    real = measured(module, forward, recomputes)
    assert (found.recomputed if recomputes else found.kept) == pytest.approx(real, rel=TOLERANCE)


@pytest.mark.parametrize("rows", [16, 1024], ids=["more gradients", "more activations"])
@pytest.mark.parametrize("recomputes", [False, True], ids=["kept", "recomputed"])
def test_gradients_come_while_activations_go(recomputes, rows):
    """All weights learn, so that their gradients are a large part; in no order are they all there at once."""
    module = Stack(learns=True, width=64)

    def forward():
        return module(torch.zeros(1, rows, 8))

    found = estimated(module, forward)
    real = measured(module, forward, recomputes)
    assert (found.recomputed if recomputes else found.kept) == pytest.approx(real, rel=TOLERANCE)


@pytest.mark.parametrize("recomputes", [False, True], ids=["kept", "recomputed"])
def test_a_unet_with_an_adapter_takes_what_is_estimated(recomputes):
    module = tiny_unet()
    with Adapter(module, AdapterConfig(rank=4, alpha=4.0), 0):
        def forward():
            return module(torch.zeros(2, 4, 32, 32), torch.tensor([1, 2]), torch.zeros(2, 7, CONTEXT)).sample

        found = estimated(module, forward)
        real = measured(module, forward, recomputes)
    assert (found.recomputed if recomputes else found.kept) == pytest.approx(real, rel=TOLERANCE)


def test_blocks_of_one_shape_run_once():
    module = Stack(depth=5)
    estimated(module, lambda: module(torch.zeros(1, 16, 8)))
    assert [vars(block)["calls"] for block in module.blocks] == [1, 0, 0, 0, 0]


def test_each_further_block_keeps_as_much():
    kept = [estimated(module, lambda module=module: module(torch.zeros(4, 64, 8))).kept
            for module in (Stack(depth=2), Stack(depth=12), Stack(depth=22))]
    assert kept[2] - kept[1] == kept[1] - kept[0] > 10 * 4 * 64 * 32 * 4


def test_a_network_larger_than_the_memory_is_estimated():
    with torch.device("meta"):
        module = nn.Sequential(*(Block(width=16384) for _ in range(50)))  # 430 GB of weights
    module.requires_grad_(False)
    found = estimated(module, lambda: module(torch.zeros(1, 4, 16384).requires_grad_()))
    assert found.kept > 50 * 4 * 16384 * 4 and found.recomputed < found.kept


def test_the_module_has_its_own_tensors_again_and_tied_ones_stay_tied():
    module = Stack(depth=2)
    module.blocks[1].norm.weight = module.blocks[0].norm.weight
    module.register_buffer("table", torch.ones(3))
    own = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers())
    with pytest.raises(KeyError), imagined(module, lambda tensor: torch.empty(tensor.shape, device="meta")):
        assert all(parameter.is_meta for parameter in module.parameters()) and module.table.is_meta
        assert module.blocks[1].norm.weight is module.blocks[0].norm.weight
        raise KeyError
    after = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers())
    assert all(after[name] is own[name] for name in own)
    assert all("forward" not in part.__dict__ for part in module.modules())


def test_live_bytes_count_what_is_made_and_still_held():
    given = torch.zeros(1000)
    with LiveBytes() as live:
        made = given + 1
        view = given.view(10, 100)
        (given * 2).sum()
        assert live.now == made.nbytes and view.shape == (10, 100)
        assert live.highest == 2 * made.nbytes + 4  # the product and its sum
    del made
    assert live.now == 0

"""Recomputing blocks changes memory and nothing else."""

import gc
import weakref

import pytest
import torch
from tiny_unet import CONTEXT, tiny_unet
from torch import nn

from comfyui_personalize.benchmarks.live_storages import LiveStorages
from comfyui_personalize.core.training.gradient_checkpointing import (
    Kept,
    checkpointed,
    find_blocks,
    is_needed,
    measure_kept,
)


def gradients(unet, blocks):
    noisy, context = torch.ones(1, 4, 8, 8), torch.ones(1, 7, CONTEXT)
    unet.zero_grad()
    with checkpointed(blocks):
        unet(noisy, torch.tensor([10]), context).sample.square().mean().backward()
    return [parameter.grad.clone() for parameter in unet.parameters()]


def test_gradients_are_identical():
    unet = tiny_unet()
    for plain, recomputed in zip(gradients(unet, []), gradients(unet, find_blocks(unet)), strict=True):
        assert torch.equal(plain, recomputed)


def test_fewer_activations_are_kept():
    unet = tiny_unet()
    noisy, context = torch.ones(1, 4, 8, 8), torch.ones(1, 7, CONTEXT)

    def forward():
        return unet(noisy, torch.tensor([10]), context).sample

    plain = measure_kept(forward, unet.parameters())
    with checkpointed(find_blocks(unet)):
        recomputed = measure_kept(forward, unet.parameters())
    assert 0 < recomputed.activations < plain.activations / 2
    assert plain.copies == recomputed.copies == 0


def test_kept_bytes_of_one_layer_are_its_input():
    layer, tokens = nn.Linear(8, 4), torch.ones(3, 8)
    assert measure_kept(lambda: layer(tokens), layer.parameters()) == Kept(0, tokens.nbytes)
    tokens.requires_grad_(True)  # the weight is kept, too, but was there before
    assert measure_kept(lambda: layer(tokens), layer.parameters()) == Kept(0, tokens.nbytes)


class SavesItsOutput(nn.Module):
    """A layer before an operation whose gradient is made from its own output."""

    def __init__(self, operation):
        super().__init__()
        self.layer, self.operation = nn.Linear(8, 8), operation

    def forward(self, tokens):
        return self.operation(self.layer(tokens)).sum()


OPERATIONS = {"exp": torch.exp, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu,
              "sqrt": lambda x: (x * x + 1).sqrt(), "softmax": lambda x: x.softmax(-1),
              "log_softmax": lambda x: x.log_softmax(-1), "norm": lambda x: x.norm(dim=-1)}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_measuring_holds_nothing_of_an_operation_that_saves_its_output(operation):
    module, tokens = SavesItsOutput(operation), torch.ones(3, 8)
    with LiveStorages() as live:
        counts = [(measure_kept(lambda: module(tokens), module.parameters()), live.held().storages)[1]
                  for _ in range(3)]
    assert counts == [0, 0, 0]


@pytest.mark.parametrize("recomputed", [False, True])
def test_measuring_a_unet_holds_nothing_and_lets_its_weights_go(recomputed):
    unet, noisy, context = tiny_unet(), torch.ones(1, 4, 8, 8), torch.ones(1, 7, CONTEXT)
    weight = weakref.ref(unet.conv_in.weight)
    with LiveStorages() as live, checkpointed(find_blocks(unet) if recomputed else []):
        for _ in range(20):
            measure_kept(lambda: unet(noisy, torch.tensor([10]), context).sample, unet.parameters())
        assert live.held() == (0, 0)
    unet = None
    gc.collect()
    assert weight() is None


def test_measuring_does_not_keep_the_pass_that_it_measures():
    layers = nn.Sequential(*(nn.Sequential(nn.Linear(8, 8), nn.Sigmoid()) for _ in range(20)))
    tokens, alive = torch.ones(1000, 8), []
    with LiveStorages() as live:
        for layer in layers:
            layer.register_forward_hook(lambda *_: alive.append(live.held().bytes))
        kept = measure_kept(lambda: layers(tokens), layers.parameters())
    assert kept.activations == 20 * tokens.nbytes + tokens.nbytes
    assert max(alive) < 5 * tokens.nbytes


def test_nothing_can_go_back_through_a_measured_pass():
    layer, tokens = nn.Linear(8, 8), torch.ones(3, 8)
    with pytest.raises(RuntimeError, match="measure_kept: a backward pass"):
        measure_kept(lambda: layer(tokens).exp().sum().backward(), layer.parameters())


def test_forwards_are_restored_when_a_pass_fails():
    unet = tiny_unet()
    blocks = find_blocks(unet)
    blocks[0].forward = marker = blocks[0].forward
    with pytest.raises(ZeroDivisionError), checkpointed(blocks):
        raise ZeroDivisionError
    assert blocks[0].forward is marker and not any("forward" in vars(block) for block in blocks[1:])


class Counting(nn.Module):
    """Scales by how often it was called, as ComfyUI's networks advance a position in shared options."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x, options):
        options["scale"] = options["scale"] * 2
        return self.layer(x).exp() * options["scale"]


def test_the_recomputation_sees_the_options_of_the_first_pass():
    block, x = nn.ModuleList([Counting()]), torch.ones(1, 2)

    def gradient(blocks):
        block.zero_grad()
        options = {"scale": 1.0}
        with checkpointed(blocks):
            loss = block[0](x, options).sum()
        options["scale"] = 100.0
        loss.backward()
        return block[0].layer.weight.grad.clone()

    assert torch.equal(gradient([]), gradient(find_blocks(block)))


class AddingInPlace(nn.Module):
    """Changes its input, as Flux's blocks do."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x):
        x += self.layer(x.clone()).exp()
        return x


def test_blocks_that_change_their_input_get_a_copy():
    blocks = nn.ModuleList([AddingInPlace(), AddingInPlace()])

    def gradients_of(recomputed):
        blocks.zero_grad()
        x = torch.ones(1, 2)
        with checkpointed(recomputed):
            blocks[1](blocks[0](x)).sum().backward()
        return [parameter.grad.clone() for parameter in blocks.parameters()]

    plain = gradients_of([])
    assert all(torch.equal(*pair) for pair in zip(plain, gradients_of(find_blocks(blocks)), strict=True))


def test_blocks_are_found_inside_lists_and_sequences():
    block = nn.Sequential(nn.Linear(1, 1))
    network = nn.Module()
    network.blocks = nn.ModuleList([nn.Sequential(Counting(), Counting()), Counting()])
    network.head = block
    assert find_blocks(network) == [network.blocks[0][0], network.blocks[0][1], network.blocks[1]]


class Casting(nn.Module):
    """A layer stored in half and computed in float32, as ComfyUI's are on a CPU: the copy is kept."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(100, 10).half(), requires_grad=False)

    def forward(self, x):
        return nn.functional.linear(x, self.weight.float())


def test_copies_of_weights_are_counted_apart():
    module, x = Casting(), torch.ones(1, 5, 10, requires_grad=True)
    kept = measure_kept(lambda: module((x * x).exp()), module.parameters())
    assert kept == Kept(copies=100 * 10 * 4, activations=2 * x.nbytes)  # of the product and of exp


def test_checkpointing_is_needed_above_four_fifths_of_the_free_memory():
    assert is_needed(Kept(copies=21, activations=20), 3, 100)
    assert not is_needed(Kept(copies=20, activations=20), 3, 100)
    assert not is_needed(Kept(copies=80, activations=0), 64, 100)

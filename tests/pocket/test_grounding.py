"""The loss that says where a noun's attention should lie: its targets, its zero, and what it moves."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest
import torch

from comfyui_personalize.pocket.config import CELLS
from comfyui_personalize.pocket.drawing import coverage, render
from comfyui_personalize.pocket.generator import Generator, generator_batch, generator_losses
from comfyui_personalize.pocket.grounding import grounding_loss, noun_targets
from comfyui_personalize.pocket.language import plural
from comfyui_personalize.pocket.scenes import Scene, training_scene
from comfyui_personalize.pocket.tokens import vocabulary


def first_scene(keep) -> Scene:
    return next(scene for scene in map(training_scene, count()) if keep(scene))


def targets_of(scene: Scene, caption: str | None = None):
    rows, labels = vocabulary().encode(scene.caption if caption is None else caption), render(scene)[1]
    return rows, labels, *noun_targets(scene, rows, labels)


def test_each_noun_of_a_caption_has_its_token_and_the_cells_of_its_thing():
    scene = first_scene(lambda scene: len(scene.things) == 3 and scene.relation != "alike")
    rows, labels, places, shares = targets_of(scene)
    for i, thing in enumerate(scene.things):
        assert rows[places[i]] == vocabulary().rows[thing.look.noun][-1]
        assert np.allclose(shares[i], coverage(labels, i + 1, CELLS))


def test_things_of_one_noun_are_one_for_their_token_is():
    scene = first_scene(lambda scene: scene.relation == "alike" and len(scene.things) == 2)
    rows, labels, places, shares = targets_of(scene)
    assert rows[places[0]] == vocabulary().rows[plural(scene.things[0].look.noun)][-1]
    assert np.allclose(shares[0], coverage(labels, 1, CELLS) + coverage(labels, 2, CELLS))
    assert not places[1:].any() and not shares[1:].any()


def test_a_caption_that_was_dropped_asks_for_nothing():
    _, _, places, shares = targets_of(training_scene(3), caption="")
    assert not places.any() and not shares.any()


def maps_like(shares: torch.Tensor, each: int, place: int) -> torch.Tensor:
    """Attention (1, 2 heads, each * 144, 77) that lies at `place` as `shares` (12, 12) says, unevenly strong."""
    attention = torch.full((1, 2, each * CELLS**2, 77), 1e-3)
    attention[..., place] = 0.3 * shares.flatten().repeat(each) / shares.max()
    return attention


def test_attention_on_the_thing_alone_costs_nothing_and_beside_it_much():
    share = torch.zeros(CELLS, CELLS)
    share[3:7, 2:6] = 1
    places, shares = torch.tensor([[5, 0, 0]]), torch.stack([share, torch.zeros_like(share), torch.zeros_like(share)])
    weight = torch.tensor([[1.0, 0.5]])

    def loss(where: torch.Tensor) -> float:
        return float(grounding_loss([maps_like(where, 2, 5)], places, shares[None], weight))

    on, spread, beside = loss(share), loss(torch.ones_like(share)), loss(share.roll(5, dims=1))
    assert on == pytest.approx(0, abs=1e-3)
    assert spread == pytest.approx(np.log(144 / 16), rel=0.01)  # a divergence from the even distribution
    assert beside > 4 * spread
    assert loss(share.clone().index_fill_(0, torch.tensor([3, 4]), 0)) > 1, "half of the thing is not the thing"


def test_nouns_that_no_caption_names_are_not_asked():
    attention = torch.rand(1, 2, CELLS**2, 77)
    share = torch.rand(1, 3, CELLS, CELLS)
    assert float(grounding_loss([attention], torch.zeros(1, 3, dtype=torch.long), share, torch.ones(1, 1))) == 0


def test_the_watched_network_is_the_same_function_and_its_attention_learns():
    torch.manual_seed(0)
    network, batch = Generator((1, 1, 1)), generator_batch(7, 4)
    latents, timesteps = torch.randn(8, 16, CELLS, CELLS), torch.arange(8) * 100
    predicted, maps = network.attended(latents, timesteps, batch.rows)
    assert torch.equal(predicted, network(latents, timesteps, batch.rows))
    assert sum(attention.shape[2] == 2 * CELLS**2 for attention in maps) == 3
    losses = generator_losses(network.attended, latents[:4], batch, torch.randn(8, 16, CELLS, CELLS),
                              torch.Generator().manual_seed(1))
    losses.grounding.backward()
    to_k = network.unet.output_blocks[-1][1].transformer_blocks[0].attn2.to_k.weight
    assert to_k.grad is not None and to_k.grad.abs().sum() > 0
    assert losses.total() > losses.denoising


def test_half_of_what_training_sees_holds_more_than_one_thing():
    def share_of_company(batch) -> float:
        return float((batch.places > 0).sum(1).gt(1).float().mean())

    assert share_of_company(generator_batch(0, 400)) > 1.25 * share_of_company(generator_batch(0, 400, redrawn=0)) > 0.2

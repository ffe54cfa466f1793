"""Attention to a noun against loops, the choice of layers, and Otsu's cut."""

from __future__ import annotations

import math

import pytest
import torch

from comfyui_personalize.core.dci.dbim import BranchTokens
from comfyui_personalize.core.dci.noun_attention import NounAttention, attention_to, cut, nearest_grids, otsu_threshold

B, H, N, T, D = 2, 3, 4, 6, 5
TOKENS = BranchTokens(T, content=(1, 2, 3), counted=(2, 3))


@pytest.fixture
def projected():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(B, H, N, D, generator=generator), torch.randn(B, H, T, D, generator=generator)


def test_attention_is_the_share_of_the_counted_tokens_among_all_averaged_over_heads(projected):
    query, key = projected
    found = attention_to(query, key, TOKENS)
    assert found.shape == (B, N) and found.dtype == torch.float32
    for b in range(B):
        for u in range(N):
            shares = []
            for h in range(H):
                powers = [math.exp(float(query[b, h, u] @ key[b, h, k]) / math.sqrt(D)) for k in range(T)]
                shares.append((powers[2] + powers[3]) / sum(powers))
            assert float(found[b, u]) == pytest.approx(sum(shares) / H, abs=1e-6)


def test_a_repeated_context_and_a_masked_token_are_read_as_they_are(projected):
    query, key = projected
    assert torch.equal(attention_to(query, torch.cat([key, key], 2), TOKENS), attention_to(query, key, TOKENS))
    bias = torch.zeros(B, 1, 1, T)
    bias[..., 0] = -torch.inf
    shorter = BranchTokens(T - 1, content=(0, 1, 2), counted=(1, 2))
    torch.testing.assert_close(attention_to(query, key, TOKENS, bias), attention_to(query, key[:, :, 1:], shorter))


@pytest.mark.parametrize(("sides", "chosen"), [
    ((64, 32, 16, 8), {32, 16}), ((64,), {64}), ((128, 64), {64}), ((12, 6), {12}), ((8, 40), {40})])
def test_layers_of_16_to_32_cells_count_or_the_nearest(sides, chosen):
    assert nearest_grids({str(side): (side, side + 4) for side in sides}) == {(side, side + 4) for side in chosen}


def test_otsu_cuts_between_two_clusters_wherever_they_lie():
    generator = torch.Generator().manual_seed(2)
    for low, high, share in ((0.1, 0.8, 0.5), (0.3, 0.5, 0.2), (0.05, 0.3, 0.8)):
        is_high = torch.rand(4000, generator=generator) < share
        values = torch.where(is_high, high, low) + 0.02 * torch.randn(4000, generator=generator)
        assert low + 0.05 < otsu_threshold(values) < high - 0.05


def test_otsu_is_the_cut_of_largest_between_class_variance_by_trying_all():
    values = torch.rand(500, generator=torch.Generator().manual_seed(3)) ** 2

    def between(limit):
        high, low = values[values > limit], values[values <= limit]
        return len(high) * len(low) * float(high.mean() - low.mean()) ** 2 if len(high) and len(low) else 0.0

    assert between(otsu_threshold(values)) >= 0.999 * max(between(k / 256) for k in range(1, 256))


def test_heat_is_the_mean_of_the_chosen_layers_each_by_its_own_mean_and_stretched():
    seen = NounAttention(32, 32)
    left, top = torch.zeros(16, 16), torch.zeros(16, 16)
    left[:, :8], top[:8] = 1.0, 1.0
    for layer, attention in (("a", 0.001 * left), ("a", 0.003 * left), ("b", 5 * top), ("coarse", torch.rand(4, 4))):
        seen.record(layer, attention.flatten())
    heat = seen.heat(16, 16)
    assert torch.equal(heat, (left + top) / 2)
    assert seen.heat(32, 48).shape == (32, 48)


def test_a_cut_is_by_the_threshold_or_by_otsu_at_0():
    heat = torch.tensor([[0.0, 0.1, 0.2], [0.7, 0.9, 1.0]])
    assert cut(heat).tolist() == [[0, 0, 0], [1, 1, 1]]
    assert cut(heat, 0.8).tolist() == [[0, 0, 0], [0, 1, 1]]

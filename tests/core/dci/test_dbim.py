"""DBIM against METHODS 2 written as plain loops, and its limits."""

import math

import pytest
import torch

from comfyui_personalize.core.dci.dbim import (
    SPACE_SCALE,
    BranchTokens,
    branch_map,
    concept_mask,
    integrate,
    integrate_without_masks,
    resolution_scale,
    sharpen_over_space,
)
from comfyui_personalize.core.errors import InputError

B, H, N, T, D = 2, 3, 6, 9, 4
CONCEPT = BranchTokens(T, content=(1, 2, 3, 4, 5), counted=(2, 3))
AUXILIARY = BranchTokens(T, content=(1, 2, 3, 4), counted=(1, 3, 4))


def softmax(values):
    top = max(values)
    powers = [math.exp(value - top) for value in values]
    return [power / sum(powers) for power in powers]


def loop_map(query, key, content, counted):
    """DBIM 1-3 for one row and head: query (N, d), key (T, d) to N numbers."""
    pixels = []
    for q in query.tolist():
        products = [sum(a * b for a, b in zip(q, k, strict=True)) for k in key.tolist()]
        attention = softmax([product / math.sqrt(len(q)) for product in products])
        sharp = softmax([10 * attention[k] for k in content])
        pixels.append(sum(value for k, value in zip(content, sharp, strict=True) if k in counted))
    return pixels


def loop_dbim(queries, keys, outputs, concept, auxiliary, omega):
    """DBIM 1-6: branch pairs of query (B, H, N, d), key (B, H, T, d), output (B, H, N, d) to mixed
    outputs."""
    mixed = torch.zeros_like(outputs[0])
    for b in range(queries[0].shape[0]):
        for h in range(queries[0].shape[1]):
            m_c = loop_map(queries[0][b, h], keys[0][b, h], concept.content, concept.counted)
            m_a = loop_map(queries[1][b, h], keys[1][b, h], auxiliary.content, auxiliary.counted)
            sharp_c = [500 * value for value in softmax([10 * m for m in m_c])]
            sharp_a = [500 * value for value in softmax([10 * m for m in m_a])]
            for u, (s_c, s_a) in enumerate(zip(sharp_c, sharp_a, strict=True)):
                weight_c, weight_a = softmax([s_c, omega * s_a])
                mixed[b, h, u] = weight_c * outputs[0][b, h, u] + weight_a * outputs[1][b, h, u]
    return mixed


@pytest.fixture
def branches():
    generator = torch.Generator().manual_seed(3)
    def pair(tokens):
        return [torch.randn(B, H, tokens, D, generator=generator) for _ in range(2)]
    return pair(N), pair(T), pair(N)


def mix(branches, omega, concept=CONCEPT, auxiliary=AUXILIARY):
    (query_c, query_a), (key_c, key_a), (out_c, out_a) = branches
    mask = concept_mask(branch_map(query_c, key_c, concept), branch_map(query_a, key_a, auxiliary), omega)
    return integrate(out_c, out_a, mask), mask


@pytest.mark.parametrize("omega", [-2, -0.5, 0, 0.7, 1, 2])
def test_dbim_equals_plain_loops(branches, omega):
    torch.testing.assert_close(mix(branches, omega)[0], loop_dbim(*branches, CONCEPT, AUXILIARY, omega),
                               atol=1e-5, rtol=0)


def test_omega_to_minus_infinity_gives_the_concept_branch(branches):
    for omega in (-1e6, -math.inf):
        assert torch.equal(mix(branches, omega)[0], branches[2][0])


def test_omega_to_infinity_gives_the_auxiliary_branch(branches):
    assert torch.equal(mix(branches, math.inf)[0], branches[2][1])


def test_omega_one_splits_evenly_where_masks_agree(branches):
    same_map = branch_map(branches[0][0], branches[1][0], CONCEPT)
    assert torch.equal(concept_mask(same_map, same_map, 1.0), torch.full((B, H, N), 0.5))


def test_omega_zero_is_not_plain_sampling(branches):
    _, mask = mix(branches, 0.0)
    assert (mask >= 0.5).all() and (mask < 1).any()


def test_masks_of_rows_do_not_depend_on_the_batch(branches):
    alone = tuple([tensor[1:] for tensor in pair] for pair in branches)
    torch.testing.assert_close(mix(branches, 1.0)[1][1:], mix(alone, 1.0)[1])


def test_repeated_context_gives_the_same_map(branches):
    query, key = branches[0][0], branches[1][0]
    repeated = branch_map(query, key.repeat(1, 1, 3, 1), CONCEPT)
    torch.testing.assert_close(repeated, branch_map(query, key, CONCEPT))


def test_half_precision_gives_a_finite_float32_mask(branches):
    halves = tuple([30 * tensor.half() for tensor in pair] for pair in branches)
    out, mask = mix(halves, 1.0)
    assert mask.dtype == torch.float32 and mask.isfinite().all()
    assert out.dtype == torch.float16 and out.isfinite().all()


def test_counted_tokens_outside_the_content_are_refused():
    with pytest.raises(InputError, match="counted columns among content"):
        BranchTokens(9, content=(1, 2), counted=(3,))


def test_sharpening_by_resolution_is_the_published_one_at_64_by_64_latents():
    assert [resolution_scale(4096 // scale**2, scale) for scale in (1, 2, 4, 8)] == [SPACE_SCALE] * 4
    assert resolution_scale(128 * 128, 1) == 4 * SPACE_SCALE and resolution_scale(256, 1) == SPACE_SCALE / 16


def test_sharpened_maps_scaled_by_resolution_have_one_mean_at_every_size():
    generator = torch.Generator().manual_seed(0)
    means = {float(sharpen_over_space(torch.rand(1, 2, n, generator=generator), resolution_scale(n, 2)).mean())
             for n in (64, 256, 1024)}
    assert max(means) - min(means) < 1e-6 and max(means) == pytest.approx(500 * 4 / 4096)


def test_without_masks_branches_are_summed_or_averaged(branches):
    concept, auxiliary = branches[2]
    assert torch.equal(integrate_without_masks(concept, auxiliary, "sum"), concept + auxiliary)
    torch.testing.assert_close(integrate_without_masks(concept, auxiliary, "half"), (concept + auxiliary) / 2)

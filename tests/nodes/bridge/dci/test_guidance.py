"""Guidance that takes one mean over all rows takes one for each branch: the auxiliary rows change nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from comfy_extras import nodes_mahiro, nodes_perpneg
from comfy_extras.nodes_perpneg import perp_neg

from comfyui_personalize.nodes.bridge.dci.branch_guidance import guide_branches_apart

ROWS = 2


@pytest.fixture
def estimates():
    """Positive, negative and empty estimates of both branches, whose sizes differ much."""
    generator = torch.Generator().manual_seed(3)
    scale = torch.tensor([1.0, 1.0, 9.0, 9.0]).view(4, 1, 1, 1)
    return [scale * torch.randn(2 * ROWS, 4, 6, 6, generator=generator) for _ in range(3)]


def guider(kind=SimpleNamespace, **options):
    made = kind.__new__(kind)
    made.model_options = options
    return made


def mahiro():
    functions = []
    nodes_mahiro.Mahiro.execute(SimpleNamespace(clone=lambda: SimpleNamespace(
        set_model_sampler_post_cfg_function=functions.append)))
    return functions[0]


def test_mahiro_takes_the_mean_of_each_branch(estimates):
    positive, negative, denoised = estimates

    def arguments(rows):
        return {"cond_scale": 4.0, "cond_denoised": positive[rows], "uncond_denoised": negative[rows],
                "denoised": denoised[rows], "sigma": torch.ones(len(positive[rows])), "cond": []}

    function, other = mahiro(), lambda given: given["denoised"]
    changed = guider(sampler_post_cfg_function=[function, other])
    guide_branches_apart(changed, ROWS)
    apart, untouched = changed.model_options["sampler_post_cfg_function"]
    both = slice(None)
    expected = torch.cat([function(arguments(slice(None, ROWS))), function(arguments(slice(ROWS, None)))])
    assert torch.equal(apart(arguments(both)), expected) and untouched is other
    assert (function(arguments(both)) - expected)[:ROWS].abs().max() > 1e-2


def test_perp_neg_guider_projects_each_branch_by_its_own(estimates):
    changed = guider(nodes_perpneg.Guider_PerpNeg)
    guide_branches_apart(changed, ROWS)
    prepare, = changed.model_options["sampler_pre_cfg_function"]
    moved = prepare({"conds_out": estimates})
    assert torch.equal(moved[1][:ROWS], estimates[1][:ROWS])
    branches = slice(None, ROWS), slice(ROWS, None)
    expected = torch.cat([perp_neg(None, *(each[rows] for each in estimates), 1.0, 4.0) for rows in branches])
    torch.testing.assert_close(perp_neg(None, *moved, 1.0, 4.0), expected, atol=1e-3, rtol=1e-5)
    assert (perp_neg(None, *estimates, 1.0, 4.0) - expected)[:ROWS].abs().max() > 1e-2


def test_perp_neg_guider_is_as_without_dci_where_auxiliary_rows_stand_still(estimates):
    changed = guider(nodes_perpneg.Guider_PerpNeg)
    guide_branches_apart(changed, ROWS)
    still = [torch.cat([each[:ROWS], estimates[0][ROWS:]]) for each in estimates]
    moved = changed.model_options["sampler_pre_cfg_function"][0]({"conds_out": still})
    assert all(torch.equal(after, before) for after, before in zip(moved, still, strict=True))


def test_other_guiders_get_no_function():
    changed = guider()
    guide_branches_apart(changed, ROWS)
    assert changed.model_options == {"sampler_post_cfg_function": []}

"""The weak prior in pictures: how much more alike an identifier makes them."""

from __future__ import annotations

import pytest
import torch

from comfyui_personalize.core.errors import InputError
from comfyui_personalize.core.subject.identifier import Candidate, WeakPrior, report
from comfyui_personalize.core.subject.picture_prior import picture_pull, rank_by_pictures


def features(count=5, width=12, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def mean_pair_distance(rows):
    distances = [(first - second).square().sum() for i, first in enumerate(rows) for second in rows[:i]]
    return float(torch.stack(distances).mean())


def test_it_is_one_minus_the_ratio_of_mean_squared_distances_of_pairs():
    own, plain = features(4, seed=1) * 0.5, features(6)
    expected = 1 - mean_pair_distance(own) / mean_pair_distance(plain)
    assert picture_pull(own, plain) == pytest.approx(expected, abs=1e-6)


def test_the_same_pictures_pull_nowhere_equal_ones_wholly_and_more_different_ones_below_zero():
    plain = features()
    assert picture_pull(plain, plain) == 0 and picture_pull(plain + 3, plain) == pytest.approx(0, abs=1e-6)
    assert picture_pull(plain[:1].expand(5, -1), plain) == pytest.approx(1)
    assert picture_pull(2 * plain, plain) == pytest.approx(-3)


def test_of_unit_vectors_it_is_the_gain_in_mean_cosine_over_what_can_be_gained():
    own, plain = (torch.nn.functional.normalize(features(seed=seed), dim=1) for seed in (1, 2))
    off = ~torch.eye(5, dtype=torch.bool)
    near, usual = (float((rows @ rows.T)[off].mean()) for rows in (own, plain))
    assert picture_pull(own, plain) == pytest.approx((near - usual) / (1 - usual), abs=1e-5)


def test_latents_count_as_their_flat_features():
    own, plain = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    assert picture_pull(own, plain) == pytest.approx(picture_pull(own.flatten(1), plain.flatten(1)))


@pytest.mark.parametrize(("own", "plain", "message"), [
    (features(1), features(), "own pictures: got 1, expected 2 or more"),
    (features(), features(1), "pictures of the class: got 1"),
    (features(), torch.ones(4, 12), "the same picture every time")])
def test_what_cannot_be_compared_is_refused(own, plain, message):
    with pytest.raises(InputError, match=message):
        picture_pull(own, plain)


def candidate(text, score):
    return Candidate(text=text, token_ids={"clip_l": (1,)}, reasons=("rare",),
                     prior=WeakPrior(closeness=score, meaning=0.0, nearest="red"))


def test_a_word_that_makes_pictures_alike_sinks_and_one_that_does_not_keeps_its_score():
    ranked = rank_by_pictures([candidate("abc", 0.9), candidate("xyz", 0.8), candidate("qrs", 0.7)], [0.5, -0.4, 0.0])
    assert [each.text for each in ranked] == ["xyz", "qrs", "abc"]
    assert [round(each.score, 3) for each in ranked] == [0.8, 0.7, 0.4]


def test_the_report_has_the_column_only_where_pictures_were_looked_at():
    plain = [candidate("abc", 0.9)]
    assert "pull" not in report(plain, "dog")
    with_pictures = report(rank_by_pictures(plain, [0.25]), "dog")
    header, row = with_pictures.splitlines()[3:5]
    assert header.index("pull") == row.index("0.25") and "0.650" in row and "pull: how much more alike" in with_pictures

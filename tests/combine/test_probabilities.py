"""Means of probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from bts_auto.combine.probabilities import geometric_mean, mean, weighted
from bts_auto.errors import DataError


def _members(count: int = 3, outputs: int = 4) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    raw = generator.random((count, outputs, 3, 4, 5))
    return list((raw / raw.sum(axis=1, keepdims=True)).astype(np.float32))


def test_mean_equals_numpy() -> None:
    members = _members()
    np.testing.assert_allclose(mean(members), np.mean(members, axis=0), rtol=1e-5)


def test_members_may_come_one_by_one() -> None:
    members = _members()
    np.testing.assert_array_equal(mean(iter(members)), mean(members))


def test_weighted_equals_numpy() -> None:
    members = _members()
    np.testing.assert_allclose(weighted(members, [1, 2, 5]), np.average(members, axis=0, weights=[1, 2, 5]), rtol=1e-5)


def test_inputs_are_left_alone() -> None:
    members = _members()
    before = [member.copy() for member in members]
    mean(members), weighted(members, [3, 1, 1]), geometric_mean(members)
    assert all(np.array_equal(a, b) for a, b in zip(members, before, strict=True))


def test_geometric_mean_of_labels_equals_scipy_and_sums_to_one() -> None:
    from scipy.stats import gmean

    members = _members()
    expected = gmean(members, axis=0)
    expected /= expected.sum(axis=0)
    np.testing.assert_allclose(geometric_mean(members), expected, rtol=1e-4)


def test_geometric_mean_of_regions_averages_logits() -> None:
    first, second = np.full((2, 1, 1, 1), 0.9), np.full((2, 1, 1, 1), 0.2)
    logit = (np.log(0.9 / 0.1) + np.log(0.2 / 0.8)) / 2
    np.testing.assert_allclose(geometric_mean([first, second], exclusive=False), 1 / (1 + np.exp(-logit)), rtol=1e-5)


def test_certain_members_stay_finite() -> None:
    certain = np.zeros((2, 1, 1, 1), np.float32)
    certain[0] = 1
    assert np.isfinite(geometric_mean([certain, certain[::-1]])).all()


@pytest.mark.parametrize("weights", [[1, 2], [1, 2, 3, 4], [0, 0, 0], [1, -1, 1]])
def test_weights_that_do_not_fit_are_refused(weights: list[float]) -> None:
    with pytest.raises(DataError, match="weights"):
        weighted(_members(), weights)


def test_no_members_and_different_shapes_are_refused() -> None:
    with pytest.raises(DataError, match="no member"):
        mean([])
    with pytest.raises(DataError, match="shapes"):
        mean([np.zeros((2, 3, 3, 3)), np.zeros((2, 3, 3, 4))])

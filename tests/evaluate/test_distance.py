"""Surface distances against surface-distance and transcriptions by distance transforms."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bts_auto.evaluate import distance, surface
from bts_auto.evaluate.empty import BRATS_DIAGONAL_MM, EMPTY_RULES
from bts_auto.evaluate.pair import Pair
from tests.evaluate import oracles
from tests.evaluate.pairs import all_pairs

NAN = EMPTY_RULES["nan"]


def test_hd95_equals_surface_distance() -> None:
    for one in all_pairs():
        expected = oracles.surface_hd95(one.prediction, one.reference, one.spacing)
        found = distance.hd95.compute(Pair(one.prediction, one.reference, one.spacing), NAN)
        assert found == pytest.approx(expected, abs=1e-6), one.name


def test_nsd_equals_surface_distance() -> None:
    for one in all_pairs()[::2]:
        pair = Pair(one.prediction, one.reference, one.spacing)
        for tolerance in (0.0, 0.99, 2.5):
            expected = oracles.surface_dice(one.prediction, one.reference, one.spacing, tolerance)
            assert distance.nsd.compute(pair, NAN, tolerance) == pytest.approx(expected, abs=1e-6), one.name


def test_border_distances_equal_a_distance_transform() -> None:
    for one in all_pairs():
        to_reference, to_prediction = oracles.border_distances(one.prediction, one.reference, one.spacing)
        pooled = np.concatenate([to_reference, to_prediction])
        pair = Pair(one.prediction, one.reference, one.spacing)
        expected = {
            distance.hd: pooled.max(),
            distance.hd95_directed: max(np.percentile(to_reference, 95), np.percentile(to_prediction, 95)),
            distance.hd95_pooled: np.percentile(pooled, 95),
            distance.assd: pooled.mean(),
        }
        for metric, value in expected.items():
            assert metric.compute(pair, NAN) == pytest.approx(value, abs=1e-6), f"{one.name}: {metric.about}"


def test_contours_of_a_plane_equal_surface_distance() -> None:
    for number in range(30):
        generator = np.random.default_rng(number)
        prediction, reference = generator.random((2, 1, 11, 9)) > 0.6
        spacing = (4.0, 0.7, 1.9)
        pair = Pair(prediction, reference, spacing)
        expected = oracles.surface_hd95(prediction[0], reference[0], spacing[1:])
        assert distance.hd95.compute(pair, NAN) == pytest.approx(expected, abs=1e-6), number
        share = oracles.surface_dice(prediction[0], reference[0], spacing[1:], 0.8)
        assert distance.nsd.compute(pair, NAN, 0.8) == pytest.approx(share, abs=1e-6), number


def test_a_volume_with_one_filled_slice_is_no_plane() -> None:
    reference = np.zeros((9, 8, 8), bool)
    reference[4, 2:6, 2:6] = True
    prediction = np.roll(reference, 1, axis=2)
    found = distance.nsd.compute(Pair(prediction, reference, (3.0, 1.0, 1.0)), NAN, 0.5)
    assert found == pytest.approx(oracles.surface_dice(prediction, reference, (3.0, 1.0, 1.0), 0.5), abs=1e-9)


@pytest.mark.parametrize("slow", [True, False])
def test_both_ways_of_finding_distances_are_exact(monkeypatch: pytest.MonkeyPatch, slow: bool) -> None:
    monkeypatch.setattr(surface, "_tree_is_slow", lambda *arguments: slow)
    for one in all_pairs()[::10]:
        start, target = surface.border_voxels(one.prediction), surface.border_voxels(one.reference)
        spacing = (0.7, 0.7, 0.7)
        expected, _ = oracles.border_distances(one.prediction, one.reference, spacing)
        np.testing.assert_allclose(surface.distances(start, target, spacing), expected, rtol=1e-12, err_msg=one.name)


def test_a_surface_far_from_another_is_found_by_a_transform() -> None:
    grid = np.indices((40, 40, 40)) - 20
    outer, inner = ((grid**2).sum(axis=0) < radius**2 for radius in (19, 3))
    found = distance.hd95.compute(Pair(outer, inner, (2.0, 2.0, 2.0)), NAN)
    assert found == pytest.approx(oracles.surface_hd95(outer, inner, (2.0, 2.0, 2.0)), abs=1e-6)


def test_without_the_transform_package_the_tree_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    one = all_pairs()[0]
    expected = distance.hd.compute(Pair(one.prediction, one.reference, (1.0, 1.0, 1.0)), NAN)
    monkeypatch.setitem(sys.modules, "edt", None)
    monkeypatch.setattr(surface, "_tree_is_slow", lambda *arguments: True)
    assert distance.hd.compute(Pair(one.prediction, one.reference, (1.0, 1.0, 1.0)), NAN) == expected


@settings(max_examples=30, deadline=None)
@given(
    axes=st.permutations([0, 1, 2]), flips=st.lists(st.booleans(), min_size=3, max_size=3), number=st.integers(0, 149)
)
def test_turning_and_mirroring_change_nothing(axes: list[int], flips: list[bool], number: int) -> None:
    one = all_pairs()[number]
    turn = tuple(slice(None, None, -1 if flip else 1) for flip in flips)
    masks = [mask.transpose(axes)[turn] for mask in (one.prediction, one.reference)]
    turned = Pair(*masks, tuple(one.spacing[a] for a in axes), planar=False)
    straight = Pair(one.prediction, one.reference, one.spacing)
    for metric in (distance.hd, distance.hd95_directed, distance.hd95_pooled, distance.assd):
        assert metric.compute(turned, NAN) == pytest.approx(metric.compute(straight, NAN), abs=1e-9)


@pytest.mark.parametrize(
    "metric", [distance.hd, distance.hd95, distance.hd95_directed, distance.hd95_pooled, distance.assd]
)
def test_empty_cases(metric) -> None:
    empty, filled = np.zeros((3, 3, 3), bool), np.ones((3, 3, 3), bool)
    spacing = (1.0, 1.0, 1.0)
    assert math.isnan(metric.compute(Pair(empty, empty, spacing), NAN))
    assert math.isnan(metric.compute(Pair(filled, empty, spacing), NAN))
    assert metric.compute(Pair(empty, empty, spacing), EMPTY_RULES["brats"]) == 0
    assert metric.compute(Pair(empty, filled, spacing), EMPTY_RULES["brats"]) == BRATS_DIAGONAL_MM
    assert metric.compute(Pair(filled, empty, spacing), EMPTY_RULES["brats2023"]) == 374


def test_nsd_of_empty_masks() -> None:
    empty, filled = np.zeros((3, 3, 3), bool), np.ones((3, 3, 3), bool)
    spacing = (1.0, 1.0, 1.0)
    assert distance.nsd.compute(Pair(empty, filled, spacing), NAN, 1.0) == 0
    assert math.isnan(distance.nsd.compute(Pair(empty, empty, spacing), NAN, 1.0))
    assert distance.nsd.compute(Pair(empty, empty, spacing), EMPTY_RULES["brats"], 1.0) == 1

"""Voting, STAPLE and SIMPLE against SimpleITK's filters and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from bts_auto.combine.simple import simple
from bts_auto.combine.staple import staple, staple_labels, staple_regions
from bts_auto.combine.vote import vote
from bts_auto.errors import DataError


def _raters(number: int, n_labels: int, count: int = 5) -> list[np.ndarray]:
    """A smooth truth, and raters that are wrong in smooth patches, each more often than the one before."""
    generator = np.random.default_rng(number)
    shape = (14, 16, 18)

    def smooth() -> np.ndarray:
        return ndimage.gaussian_filter(generator.standard_normal(shape), 2)

    truth = np.digitize(smooth(), np.quantile(smooth(), np.linspace(0.5, 0.95, n_labels - 1))).astype(np.uint8)
    raters = []
    for rater in range(count):
        field = smooth()
        wrong = field > np.quantile(field, 0.97 - 0.04 * rater)
        raters.append(np.where(wrong, np.roll(truth, rater + 1, axis=rater % 3), truth).astype(np.uint8))
    return raters


def _images(masks: list[np.ndarray]) -> list[sitk.Image]:
    return [sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in masks]


@pytest.mark.parametrize("number", range(8))
def test_vote_equals_simpleitk_where_there_is_no_tie(number: int) -> None:
    masks = _raters(number, 4)
    undecided = 200
    expected = sitk.GetArrayFromImage(sitk.LabelVoting(_images(masks), undecided))
    decided = expected != undecided
    np.testing.assert_array_equal(vote(masks)[decided], expected[decided])


def test_ties_are_broken_as_stated() -> None:
    masks = [np.array([[[value]]], np.uint8) for value in (3, 1, 1, 3, 2)]
    assert vote(masks, ties="first").item() == 3
    assert vote(masks, ties="lowest").item() == 1
    assert vote(masks, ties="background").item() == 0


def test_votes_are_weighted() -> None:
    masks = [np.array([[[value]]], np.uint8) for value in (2, 1, 1)]
    assert vote(masks, [5, 2, 2]).item() == 2


@pytest.mark.parametrize("number", range(8))
def test_staple_equals_simpleitk(number: int) -> None:
    masks = [mask > 1 for mask in _raters(number, 4)]
    oracle = sitk.STAPLEImageFilter()
    expected = sitk.GetArrayFromImage(oracle.Execute(_images(masks)))
    found = staple(masks, iterations=1000, tolerance=1e-10)
    np.testing.assert_allclose(found.sensitivity, oracle.GetSensitivity(), atol=1e-4)
    np.testing.assert_allclose(found.specificity, oracle.GetSpecificity(), atol=1e-4)
    np.testing.assert_allclose(found.probability, expected, atol=1e-3)


@pytest.mark.parametrize("number", range(6))
def test_multi_label_staple_equals_simpleitk(number: int) -> None:
    masks = _raters(number, 4)
    oracle = sitk.MultiLabelSTAPLEImageFilter()
    expected = sitk.GetArrayFromImage(oracle.Execute(_images(masks)))
    found = staple_labels(masks, iterations=1000, tolerance=1e-9)
    assert (found != expected).mean() < 1e-3


def test_staple_trusts_the_raters_that_agree() -> None:
    truth = np.zeros((8, 8, 8), bool)
    truth[2:6, 2:6, 2:6] = True
    found = staple([truth, truth, truth, ~truth])
    np.testing.assert_array_equal(found.probability > 0.5, truth)
    assert found.sensitivity[3] < 0.1 < 0.9 < found.sensitivity[0]


@pytest.mark.parametrize("value", [False, True])
def test_staple_of_masks_that_are_all_alike(value: bool) -> None:
    masks = [np.full((3, 3, 3), value)] * 3
    assert (staple(masks).probability == value).all()


def test_staple_per_region_paints_in_order() -> None:
    masks = _raters(1, 4)
    found = staple_regions(masks, [(1, 2, 3), (2, 3), (3,)], [1, 2, 3])
    inner = staple([mask == 3 for mask in masks]).probability > 0.5
    assert (found[inner] == 3).all()


def test_simple_drops_the_rater_that_disagrees() -> None:
    truth = np.zeros((10, 10, 10), bool)
    truth[3:7, 3:7, 3:7] = True
    moved = [np.roll(truth, 1, axis=axis) for axis in range(3)]
    outlier = np.zeros_like(truth)
    outlier[8:, 8:, 8:] = True
    np.testing.assert_array_equal(simple([truth, truth, *moved, outlier]), simple([truth, truth, *moved]))


def test_simple_of_equal_raters_is_that_rater() -> None:
    mask = _raters(0, 2)[0].astype(bool)
    np.testing.assert_array_equal(simple([mask] * 4), mask)


@pytest.mark.parametrize("fuse", [vote, staple, staple_labels, simple])
def test_no_members_are_refused(fuse) -> None:
    with pytest.raises(DataError, match="no member"):
        fuse([])


@pytest.mark.parametrize("fuse", [vote, staple, staple_labels])
def test_different_shapes_are_refused(fuse) -> None:
    with pytest.raises(DataError, match="shapes"):
        fuse([np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2, 3), np.uint8)])

"""Lesion-wise scores against a transcription of the published rules, and panoptic quality by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from bts_auto.errors import PlanError
from bts_auto.evaluate import lesions
from bts_auto.evaluate.empty import EMPTY_RULES
from bts_auto.evaluate.pair import Pair
from tests.evaluate import oracles

BRATS = EMPTY_RULES["brats2023"]
NAN = EMPTY_RULES["nan"]
RULES = {"GLI": (3, 50.0), "SSA": (3, 50.0), "PED": (3, 50.0), "MEN": (1, 50.0), "MET": (1, 2.0)}
SPACINGS = ((1.0, 1.0, 1.0), (2.5, 1.0, 1.0), (1.0, 1.3, 0.7))


def _scattered(number: int) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """Several lesions of many sizes; some are found, some missed, some invented."""
    generator = np.random.default_rng(number)
    shape = (20, 26, 30)
    grid = np.indices(shape)
    masks = np.zeros((2, *shape), bool)
    for _ in range(int(generator.integers(1, 7))):
        centre, radius = generator.uniform(0, shape), generator.uniform(0.6, 4.5)
        for mask, keep in zip(masks, generator.random(2) < 0.75, strict=True):
            moved = centre + generator.normal(0, 0.8, 3)
            if keep:
                mask |= ((grid - moved[:, None, None, None]) ** 2).sum(axis=0) <= radius**2
    return masks[0], masks[1], SPACINGS[number % 3]


@pytest.mark.parametrize("task", list(RULES))
def test_equals_a_transcription_of_the_rules(task: str) -> None:
    for number in range(50):
        prediction, reference, spacing = _scattered(number)
        expected = oracles.lesion_wise(prediction, reference, spacing, *RULES[task])
        pair = Pair(prediction, reference, spacing)
        found = tuple(
            metric.compute(pair, BRATS, task)
            for metric in (lesions.lesion_dice, lesions.lesion_hd95, lesions.lesion_f1)
        )
        assert found == pytest.approx(expected, abs=1e-6), number


def _volume(*boxes: tuple[slice, ...]) -> np.ndarray:
    mask = np.zeros((20, 20, 40), bool)
    for box in boxes:
        mask[box] = True
    return mask


BIG = (slice(2, 8), slice(2, 8), slice(2, 8))
NEAR = (
    slice(2, 8),
    slice(2, 8),
    slice(12, 18),
)  # 4 voxels from BIG: joined with it where 3 steps are dilated, not where 1 is
FAR = (slice(2, 8), slice(2, 8), slice(30, 36))
DOT = (slice(15, 16), slice(15, 16), slice(20, 21))


def test_near_reference_components_are_one_lesion_by_the_task() -> None:
    reference = _volume(BIG, NEAR)
    pair = Pair(_volume(BIG), reference, (1.0, 1.0, 1.0))
    assert len(lesions.find_lesions(pair, "GLI").dice) == 1
    assert len(lesions.find_lesions(pair, "MEN").dice) == 2


def test_a_missed_lesion_counts_zero_and_374() -> None:
    pair = Pair(_volume(BIG), _volume(BIG, FAR), (1.0, 1.0, 1.0))
    assert lesions.lesion_dice.compute(pair, BRATS, "GLI") == pytest.approx(0.5)
    assert lesions.lesion_hd95.compute(pair, BRATS, "GLI") == pytest.approx(187)
    assert lesions.lesion_f1.compute(pair, BRATS, "GLI") == pytest.approx(2 / 3)


def test_an_invented_voxel_counts_as_much_as_a_lesion() -> None:
    pair = Pair(_volume(BIG, DOT), _volume(BIG), (1.0, 1.0, 1.0))
    assert lesions.lesion_dice.compute(pair, BRATS, "MET") == pytest.approx(0.5)
    assert lesions.find_lesions(pair, "MET").false_positives == 1


def test_a_small_reference_lesion_is_dropped_with_its_match() -> None:
    pair = Pair(_volume(BIG, DOT), _volume(BIG, DOT), (1.0, 1.0, 1.0))
    found = lesions.find_lesions(pair, "GLI")
    assert (len(found.dice), found.false_positives) == (1, 0)


def test_nothing_at_all() -> None:
    empty = np.zeros((5, 5, 5), bool)
    pair = Pair(empty, empty, (1.0, 1.0, 1.0))
    assert lesions.lesion_dice.compute(pair, BRATS, "GLI") == 1
    assert lesions.lesion_hd95.compute(pair, BRATS, "GLI") == 0
    assert math.isnan(lesions.lesion_f1.compute(pair, NAN, "GLI"))


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(PlanError, match="GLI, SSA, PED, MEN, MET"):
        lesions.find_lesions(Pair(_volume(BIG), _volume(BIG), (1.0, 1.0, 1.0)), "LIVER")


def test_panoptic_quality_by_hand() -> None:
    half_moved = (slice(2, 8), slice(2, 8), slice(3, 9))  # 5 of 6 planes shared: IoU 5/7
    pair = Pair(_volume(half_moved, DOT), _volume(BIG, FAR), (1.0, 1.0, 1.0))
    assert lesions.panoptic_quality.compute(pair, NAN) == pytest.approx((5 / 7) / (1 + 0.5 + 0.5))


def test_panoptic_quality_equals_matching_one_by_one() -> None:
    for number in range(30):
        prediction, reference, spacing = _scattered(number)
        mine, n_mine = ndimage.label(prediction, np.ones((3, 3, 3)))
        theirs, n_theirs = ndimage.label(reference, np.ones((3, 3, 3)))
        total = 0.0
        for i in range(1, n_mine + 1):
            for j in range(1, n_theirs + 1):
                iou = ((mine == i) & (theirs == j)).sum() / ((mine == i) | (theirs == j)).sum()
                total += iou if iou > 0.5 else 0.0
        expected = total / ((n_mine + n_theirs) / 2) if n_mine + n_theirs else math.nan
        found = lesions.panoptic_quality.compute(Pair(prediction, reference, spacing), NAN)
        assert found == pytest.approx(expected, abs=1e-9, nan_ok=True), number

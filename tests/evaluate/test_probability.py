"""Ranking and calibration scores against scikit-learn and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics as sk

from bts_auto.errors import DataError
from bts_auto.evaluate import probability


def _voxels(number: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(number)
    reference = generator.random((4, 9, 8)) < 0.3
    probabilities = np.clip(0.4 * reference + generator.random(reference.shape) * 0.7, 0, 1)
    if number % 2:  # many ties, as 8-bit probabilities have
        probabilities = np.round(probabilities * 20) / 20
    return probabilities.astype(np.float32), reference


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (probability.average_precision, sk.average_precision_score),
        (probability.auroc, sk.roc_auc_score),
        (probability.brier, sk.brier_score_loss),
    ],
)
def test_equals_scikit_learn(ours, theirs) -> None:
    for number in range(60):
        probabilities, reference = _voxels(number)
        assert ours(probabilities, reference) == pytest.approx(
            theirs(reference.ravel(), probabilities.ravel()), abs=1e-6
        )


def test_precision_recall_curve_equals_scikit_learn() -> None:
    probabilities, reference = _voxels(3)
    found = probability.curve(probabilities, reference)
    precision, recall, thresholds = sk.precision_recall_curve(reference.ravel(), probabilities.ravel())
    np.testing.assert_allclose(found.thresholds[::-1], thresholds)
    np.testing.assert_allclose(found.precision[::-1], precision[:-1])
    np.testing.assert_allclose(found.recall[::-1], recall[:-1])


def test_calibration_error_by_hand() -> None:
    probabilities = np.array([0.05, 0.05, 0.95, 0.95], np.float64)
    reference = np.array([False, True, True, True])
    # Two bins of ten: |0.05 - 0.5| and |0.95 - 1|, half of the voxels each.
    assert probability.expected_calibration_error(probabilities, reference, 10) == pytest.approx(0.25)


def test_perfect_calibration_has_no_error() -> None:
    probabilities = np.repeat([0.25, 0.75], 400)
    reference = np.concatenate([np.arange(400) < 100, np.arange(400) < 300])
    assert probability.expected_calibration_error(probabilities, reference) == pytest.approx(0)


def test_pooled_scores_equal_those_of_all_voxels_at_once() -> None:
    pooled = probability.Pooled()
    parts = [_voxels(number) for number in range(6)]
    parts = [(np.round(p * 255) / 255, r) for p, r in parts]
    for probabilities, reference in parts:
        pooled.update(probabilities, reference)
    everything, truth = (np.concatenate([part[i].ravel() for part in parts]) for i in (0, 1))
    found = pooled.result()
    assert found["average_precision"] == pytest.approx(probability.average_precision(everything, truth), abs=1e-6)
    assert found["auroc"] == pytest.approx(probability.auroc(everything, truth), abs=1e-6)
    assert found["brier"] == pytest.approx(probability.brier(everything, truth), abs=1e-4)
    expected = probability.expected_calibration_error(everything, truth)
    assert found["expected_calibration_error"] == pytest.approx(expected, abs=1e-4)


def test_without_positives_or_negatives_ranking_is_undefined() -> None:
    probabilities = np.array([0.1, 0.7])
    assert math.isnan(probability.auroc(probabilities, np.array([False, False])))
    assert math.isnan(probability.auroc(probabilities, np.array([True, True])))
    assert math.isnan(probability.average_precision(probabilities, np.array([False, False])))


@pytest.mark.parametrize("wrong", [np.array([0.1, np.nan]), np.array([0.1])])
def test_refuses_what_cannot_be_scored(wrong: np.ndarray) -> None:
    with pytest.raises(DataError):
        probability.brier(wrong, np.array([True, False]))

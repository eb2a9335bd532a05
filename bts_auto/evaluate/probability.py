"""Scores of probabilities against a mask: ranking (AUROC, average precision) and calibration (ECE, Brier).

Each takes the probabilities of one region and its reference as arrays of one shape, for one case; :class:`Pooled`
gathers the voxels of many cases, without keeping them, for the same scores over a cohort.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bts_auto.errors import DataError

_BINS = 15
_FINE = 1 << 16


def _checked(probabilities: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    probabilities, reference = np.asarray(probabilities).ravel(), np.asarray(reference, bool).ravel()
    if probabilities.shape != reference.shape:
        raise DataError(f"{probabilities.size} probabilities for {reference.size} reference voxels")
    if not np.isfinite(probabilities).all():
        raise DataError("probabilities are not all finite")
    return probabilities, reference


@dataclass(frozen=True)
class Curve:
    """Precision and recall at every distinct threshold, from the strictest to the loosest.

    A voxel is predicted where its probability is at least the threshold. `true_positives` and `false_positives` are
    voxel counts.
    """

    thresholds: np.ndarray
    true_positives: np.ndarray
    false_positives: np.ndarray
    positives: int

    @property
    def precision(self) -> np.ndarray:
        """TP / (TP + FP) at each threshold."""
        return self.true_positives / (self.true_positives + self.false_positives)

    @property
    def recall(self) -> np.ndarray:
        """TP / positives at each threshold; NaN without positives."""
        return self.true_positives / self.positives if self.positives else np.full(len(self.thresholds), math.nan)


def curve(probabilities: np.ndarray, reference: np.ndarray) -> Curve:
    """The precision-recall curve of probabilities against a boolean reference of the same shape."""
    probabilities, reference = _checked(probabilities, reference)
    order = np.argsort(-probabilities, kind="stable")
    ranked, truth = probabilities[order], reference[order]
    last = np.flatnonzero(np.append(np.diff(ranked) != 0, [True] if ranked.size else []))
    hits = np.cumsum(truth, dtype=np.int64)[last]
    return Curve(ranked[last], hits, last + 1 - hits, int(reference.sum()))


def average_precision(probabilities: np.ndarray, reference: np.ndarray) -> float:
    """Sum over thresholds of precision times the step of recall (no interpolation), as scikit-learn defines it.

    Empty reference: NaN.
    """
    found = curve(probabilities, reference)
    return _area_under_precision(found)


def _area_under_precision(found: Curve) -> float:
    if not found.positives:
        return math.nan
    return float(np.sum(np.diff(found.recall, prepend=0) * found.precision))


def auroc(probabilities: np.ndarray, reference: np.ndarray) -> float:
    """Area under the receiver operating characteristic: the chance that a positive ranks above a negative (ties half).

    Empty reference, or one that fills the image: NaN.
    """
    return _area_under_roc(curve(probabilities, reference))


def _area_under_roc(found: Curve) -> float:
    negatives = int(found.false_positives[-1]) if len(found.thresholds) else 0
    if not found.positives or not negatives:
        return math.nan
    rise = np.concatenate([[0], found.true_positives / found.positives])
    run = np.diff(found.false_positives, prepend=0) / negatives
    return float(np.sum(run * (rise[1:] + rise[:-1]) / 2))


def brier(probabilities: np.ndarray, reference: np.ndarray) -> float:
    """Mean squared difference of probability and truth over voxels; 0 is best.

    Defined for an empty reference. No voxels: NaN.
    """
    probabilities, reference = _checked(probabilities, reference)
    return float(np.mean((probabilities.astype(np.float64) - reference) ** 2)) if reference.size else math.nan


@dataclass(frozen=True)
class Reliability:
    """How often what was said with a certain probability is true, in equally wide bins.

    `confidence` and `frequency` are means in each bin (NaN in an empty one), `counts` its voxels.
    """

    confidence: np.ndarray
    frequency: np.ndarray
    counts: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error: mean over voxels of the gap between confidence and frequency in their bin."""
        filled = self.counts > 0
        if not filled.any():
            return math.nan
        gap = np.abs(self.confidence - self.frequency)[filled]
        return float(np.sum(gap * self.counts[filled]) / self.counts.sum())


def reliability(probabilities: np.ndarray, reference: np.ndarray, bins: int = _BINS) -> Reliability:
    """The reliability table of one region; a bin holds its upper bound, the first one holds 0 as well."""
    probabilities, reference = _checked(probabilities, reference)
    return _table(_bin_of(probabilities, bins), probabilities, reference, bins)


def _bin_of(probabilities: np.ndarray, bins: int) -> np.ndarray:
    return np.clip(np.ceil(probabilities.astype(np.float64) * bins).astype(np.int64) - 1, 0, bins - 1)


def _table(index: np.ndarray, probabilities: np.ndarray, reference: np.ndarray, bins: int) -> Reliability:
    counts = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(index, probabilities.astype(np.float64), bins) / counts
        frequency = np.bincount(index, reference, bins) / counts
    return Reliability(confidence, frequency, counts)


def reliability_of_counts(tables: Sequence[tuple[np.ndarray, np.ndarray]], bins: int = _BINS) -> Reliability:
    """The reliability table of voxels that were counted by their probability.

    Parameters
    ----------
    tables : sequence of (ndarray, shape (n,); ndarray of int, shape (2, n))
        Of each case the probabilities, and how many voxels of each are outside and inside the region.
    """
    voxels, confidence, frequency = np.zeros((3, bins))
    for level, (outside, inside) in tables:
        index, both = _bin_of(level, bins), outside.astype(np.int64) + inside
        voxels += np.bincount(index, both, bins)
        confidence += np.bincount(index, both * level, bins)
        frequency += np.bincount(index, inside, bins)
    with np.errstate(invalid="ignore"):
        return Reliability(confidence / voxels, frequency / voxels, voxels.astype(np.int64))


def expected_calibration_error(probabilities: np.ndarray, reference: np.ndarray, bins: int = _BINS) -> float:
    """Expected calibration error of a region's probabilities over equally wide bins; 0 is best.

    Defined for an empty reference. No voxels: NaN.

    References
    ----------
    Naeini, Cooper and Hauskrecht, Obtaining well calibrated probabilities using Bayesian binning, AAAI 2015.
    """
    return reliability(probabilities, reference, bins).error


@dataclass
class Pooled:
    """The scores above over the voxels of many cases, in constant memory.

    Voxels are counted by their probability in 65,536 steps, so that ranking and calibration are exact to 1/65,536 in
    the probability; 8-bit and 16-bit probabilities lose nothing.
    """

    _positive: np.ndarray = field(default_factory=lambda: np.zeros(_FINE + 1, np.int64))
    _negative: np.ndarray = field(default_factory=lambda: np.zeros(_FINE + 1, np.int64))

    def update(self, probabilities: np.ndarray, reference: np.ndarray) -> None:
        """Add the voxels of a case."""
        probabilities, reference = _checked(probabilities, reference)
        steps = np.rint(np.clip(probabilities, 0, 1).astype(np.float64) * _FINE).astype(np.int64)
        self._positive += np.bincount(steps[reference], minlength=_FINE + 1)
        self._negative += np.bincount(steps[~reference], minlength=_FINE + 1)

    def _curve(self) -> Curve:
        used = np.flatnonzero(self._positive + self._negative)[::-1]
        hits = np.cumsum(self._positive[used])
        return Curve(used / _FINE, hits, np.cumsum(self._negative[used]), int(self._positive.sum()))

    def result(self) -> dict[str, float]:
        """Average precision, AUROC, expected calibration error and Brier score of everything added so far."""
        found, table = self._curve(), self.reliability()
        level = np.arange(_FINE + 1) / _FINE
        total = int(self._positive.sum() + self._negative.sum())
        squared = float(np.sum(self._positive * (1 - level) ** 2 + self._negative * level**2))
        return {
            "average_precision": _area_under_precision(found),
            "auroc": _area_under_roc(found),
            "expected_calibration_error": table.error,
            "brier": squared / total if total else math.nan,
        }

    def reliability(self, bins: int = _BINS) -> Reliability:
        """The reliability table of everything added so far."""
        counts = np.stack([self._negative, self._positive])
        return reliability_of_counts([(np.arange(_FINE + 1) / _FINE, counts)], bins)

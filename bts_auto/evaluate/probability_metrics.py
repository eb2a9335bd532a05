"""Scores of the probability that a region was given, over all voxels of the image; NaN where only masks are known."""

from __future__ import annotations

import math

from bts_auto.evaluate.empty import EmptyRule
from bts_auto.evaluate.metric import metric
from bts_auto.evaluate.pair import Pair
from bts_auto.evaluate.probability import Pooled


@metric(of_probabilities=True)
def average_precision(pair: Pair, empty: EmptyRule) -> float:
    """Sum over thresholds of precision times the step of recall.

    Empty reference: the rule's value for one empty mask, or for both where no voxel is predicted either.

    References
    ----------
    scikit-learn, ``average_precision_score``.
    """
    return _ranking(pair, empty, "average_precision")


@metric(of_probabilities=True)
def auroc(pair: Pair, empty: EmptyRule) -> float:
    """Area under the receiver operating characteristic.

    The chance that a voxel of the region has a higher probability than one outside. Empty reference: the rule's value
    for one empty mask, or for both where no voxel is predicted either.

    References
    ----------
    Hanley and McNeil, The meaning and use of the area under a ROC curve, Radiology 143 (1982) 29-36.
    """
    return _ranking(pair, empty, "auroc")


@metric(better="lower", of_probabilities=True)
def expected_calibration_error(pair: Pair, empty: EmptyRule) -> float:
    """Mean gap between probability and frequency over voxels, in 15 equal bins.

    Empty reference: defined.

    References
    ----------
    Naeini, Cooper and Hauskrecht, Obtaining well calibrated probabilities using Bayesian binning, AAAI 2015.
    """
    return _score(pair, "expected_calibration_error")


@metric(better="lower", of_probabilities=True)
def brier(pair: Pair, empty: EmptyRule) -> float:
    """Mean squared difference of probability and truth over voxels.

    Empty reference: defined.

    References
    ----------
    Brier, Verification of forecasts expressed in terms of probability, Monthly Weather Review 78 (1950) 1-3.
    """
    return _score(pair, "brier")


def _ranking(pair: Pair, empty: EmptyRule, name: str) -> float:
    if pair.judged is not None and not pair.reference.any():
        return empty.overlap(both=not pair.prediction.any())
    return _score(pair, name)


def _score(pair: Pair, name: str) -> float:
    """One of the scores of :class:`bts_auto.evaluate.probability.Pooled`, which are worked out together."""

    def work() -> dict[str, float]:
        if pair.judged is None:
            return {}
        pooled = Pooled()
        pooled.update(*pair.judged())
        return pooled.result()

    return pair.once("probability", work).get(name, math.nan)

"""Predicting a case's Dice from how far its members agree with the mask, and how well that works on cross-validation.

The mean probability of a voxel is the share of the members' votes. Were the truth drawn from them, a mask m would be
expected to overlap it by 2 sum(p m) / (sum p + sum m): the Dice of the mask with an average member. Members are surer
than they are right, so that the calibrated probability takes the place of p.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from bts_auto.combine.temperature import scale
from bts_auto.data.labels import Labels
from bts_auto.documents import Document
from bts_auto.ensemble.evidence import LEVELS, count_levels

# Fewer points have no correlation worth a number.
_LEAST_CASES = 3
# A predicted Dice below this is low, as is one that is lower than nearly all of cross-validation. Where most of these
# lie below themselves, every case would be named, and only the latter counts.
LOW, _LOW_PERCENTILE, _LOW_MARGIN = 0.5, 5, 0.05
# Probabilities are looked at as the cache has them, in which the prediction was tried.
_STEPS = np.float32(255)


class Agreement(Document):
    """How predicted and true Dice of cross-validated cases go together.

    Attributes
    ----------
    cases : int
    correlation, rank_correlation : float or None
        Pearson's and Spearman's, of the means over regions; None with fewer than three cases or without any spread.
    error : float
        Mean absolute difference.
    low : float
        A new case is named when its predicted Dice lies below; 0 where true Dice does not grow with it.
    predicted, true : dict of str to float
        For each case, means over the regions that are predicted to be there.
    """

    cases: int
    correlation: float | None
    rank_correlation: float | None
    error: float
    low: float
    predicted: dict[str, float]
    true: dict[str, float]

    @property
    def informs(self) -> bool:
        """Whether true Dice grew with the predicted one on cross-validation, as far as that can be told."""
        return self.correlation is None or self.correlation > 0

    def is_low(self, predicted: float) -> bool:
        """Whether a new case should be named for its predicted Dice."""
        return self.informs and predicted < self.low


def expected_dice(counts: np.ndarray, temperature: float) -> float | None:
    """Expected Dice of a mask with a truth that is drawn from calibrated probabilities; None for an empty mask.

    Parameters
    ----------
    counts : ndarray, shape (2, levels)
        How many voxels of each of :data:`bts_auto.ensemble.evidence.LEVELS` lie outside and inside the mask.
    temperature : float
    """
    outside, inside = counts.astype(np.float64)
    if not inside.any():
        return None
    p = scale(LEVELS, temperature).astype(np.float64)
    return float(2 * (p @ inside) / (p @ (inside + outside) + inside.sum()))


def summarise_agreement(predicted: Mapping[str, float], true: Mapping[str, float]) -> Agreement | None:
    """Compare predicted with true Dice, case by case; None without any case."""
    cases = [case for case in predicted if case in true]
    if not cases:
        return None
    said, is_so = (np.array([values[case] for case in cases]) for values in (predicted, true))
    linear = rank = None
    if len(cases) >= _LEAST_CASES and np.ptp(said) > 0 and np.ptp(is_so) > 0:
        linear = float(np.corrcoef(said, is_so)[0, 1])
        rank = float(np.corrcoef(_ranks(said), _ranks(is_so))[0, 1])
    low = float(np.percentile(said, _LOW_PERCENTILE)) - _LOW_MARGIN
    if np.median(said) >= LOW:
        low = max(LOW, low)
    if linear is not None and linear <= 0:
        low = 0.0
    return Agreement(
        cases=len(cases),
        correlation=linear,
        rank_correlation=rank,
        error=float(np.abs(said - is_so).mean()),
        low=round(max(low, 0.0), 4),
        predicted={case: round(predicted[case], 4) for case in cases},
        true={case: round(true[case], 4) for case in cases},
    )


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values share the mean of theirs. (SciPy's takes longer to import than a choice to make.)"""
    ordered = np.sort(values)
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right") + 1) / 2


def predicted_dice(
    channels: Iterable[np.ndarray],
    mask: np.ndarray,
    labels: Labels,
    regions: Mapping[str, tuple[int, ...]],
    temperatures: Mapping[str, float],
) -> dict[str, float]:
    """The predicted Dice of each region that a mask holds.

    Parameters
    ----------
    channels : iterable of ndarray, shape (z, y, x)
        Mean probability, not calibrated, of each of ``labels.outputs`` in turn.
    mask : ndarray of int, shape (z, y, x)
    regions : mapping of str to tuple of int
        The integers of each region; those that the labels do not know are left out.
    temperatures : mapping of str to float
        1 where none is given.
    """
    sums: dict[str, np.ndarray] = {}
    for channel, own in zip(channels, labels.members(), strict=True):
        stored = np.rint(np.clip(channel, 0, 1) * _STEPS) / _STEPS
        for name, values in regions.items():
            if set(own) == set(values) if labels.has_regions else own[0] in values:
                sums[name] = sums[name] + stored if name in sums else stored
    found = {}
    for name, probability in sums.items():
        dice = expected_dice(count_levels(probability, np.isin(mask, regions[name])), temperatures.get(name, 1.0))
        if dice is not None:
            found[name] = dice
    return found


def mean_of(values: Sequence[float]) -> float | None:
    """Their mean; None of none."""
    return float(np.mean(values)) if values else None

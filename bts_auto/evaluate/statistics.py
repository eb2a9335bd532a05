"""Statistics over cases: summaries with bootstrap intervals, and paired tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

_DRAWS = 5000
_CONFIDENCE = 0.95
# Draws held in memory at once; a draw of a large cohort is as long as the cohort.
_BLOCK = 4_000_000


@dataclass(frozen=True)
class Summary:
    """A score over cases; undefined (NaN) cases are left out and `n` says how many remain.

    `low` and `high` bound the mean by a 95 % percentile bootstrap over cases (NaN with fewer than two).
    """

    n: int
    mean: float
    median: float
    q1: float
    q3: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | int | None]:
        """The fields, with None for NaN."""
        return {name: _plain(value) for name, value in asdict(self).items()}


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def summarise(values: Sequence[float] | np.ndarray, *, seed: int = 0) -> Summary:
    """Mean, median, quartiles and bootstrap interval of `values`, NaN left out."""
    defined = np.asarray(values, np.float64)
    defined = defined[~np.isnan(defined)]
    if defined.size == 0:
        return Summary(0, *[math.nan] * 6)
    q1, median, q3 = (float(q) for q in np.percentile(defined, (25, 50, 75)))
    low, high = bootstrap_interval(defined, seed=seed)
    return Summary(defined.size, float(defined.mean()), median, q1, q3, low, high)


def bootstrap_interval(values: np.ndarray, *, seed: int = 0, confidence: float = _CONFIDENCE) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `values` over cases; (NaN, NaN) with fewer than two.

    References
    ----------
    Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3.
    """
    values = np.asarray(values, np.float64)
    if values.size < 2:
        return math.nan, math.nan
    generator = np.random.default_rng(seed)
    means = []
    for start in range(0, _DRAWS, block := max(1, _BLOCK // values.size)):
        count = min(block, _DRAWS - start)
        means.append(values[generator.integers(0, values.size, (count, values.size))].mean(axis=1))
    tail = 50 * (1 - confidence)
    low, high = np.percentile(np.concatenate(means), (tail, 100 - tail))
    return float(low), float(high)


@dataclass(frozen=True)
class PairedTest:
    """Two sets of scores of the same cases, the first minus the second.

    Attributes
    ----------
    n : int
        Cases in which both scores are defined.
    difference, low, high : float
        Mean difference and its 95 % bootstrap interval.
    p_value : float
        Two-sided Wilcoxon signed-rank test; 1 when all differences are 0, NaN with no case.
    effect : float
        Matched-pairs rank-biserial correlation, -1 to 1: the share of rank sums in favour of the first minus the share
        in favour of the second.
    """

    n: int
    difference: float
    low: float
    high: float
    p_value: float
    effect: float

    def to_json(self) -> dict[str, float | int | None]:
        """The fields, with None for NaN."""
        return {name: _plain(value) for name, value in asdict(self).items()}


def compare_paired(first: Sequence[float], second: Sequence[float], *, seed: int = 0) -> PairedTest:
    """Compare two scores of the same cases.

    References
    ----------
    Wilcoxon, Individual comparisons by ranking methods, Biometrics 1 (1945). Kerby, The simple difference formula,
    Comprehensive Psychology 3 (2014), for the effect size.
    """
    from scipy.stats import rankdata, wilcoxon

    difference = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    difference = difference[~np.isnan(difference)]
    if difference.size == 0:
        return PairedTest(0, *[math.nan] * 5)
    low, high = bootstrap_interval(difference, seed=seed)
    moved = difference[difference != 0]
    if moved.size == 0:
        return PairedTest(difference.size, 0.0, low, high, 1.0, 0.0)
    ranks = rankdata(np.abs(moved))
    effect = float((ranks * np.sign(moved)).sum() / ranks.sum())
    p_value = float(wilcoxon(moved).pvalue)
    return PairedTest(difference.size, float(difference.mean()), low, high, p_value, effect)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number by Holm's step-down method; NaN stays NaN and is not counted.

    References
    ----------
    Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6 (1979).
    """
    values = np.asarray(p_values, np.float64)
    defined = np.flatnonzero(~np.isnan(values))
    order = defined[np.argsort(values[defined], kind="stable")]
    adjusted = values.copy()
    stepped = values[order] * np.arange(order.size, 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return adjusted.tolist()

"""Exact statistics of voxels that together do not fit into memory.

Each case leaves a *tally* of each channel: its distinct values, sorted, and how many voxels lie at or below each. Mean
and deviation of all cases come from the cases' own moments [1]. An order statistic of all cases is found by bisection
over the 2**32 float32 numbers: 32 times the tallies are asked how many voxels lie at or below a number, which touches a
few pages of each file. Percentiles are therefore those of all voxels, as `numpy.percentile` would give them; nothing is
sampled.

References
----------
.. [1] Chan, Golub, LeVeque. Updating formulae and a pairwise algorithm for computing sample variances. 1979.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# nnU-Net's names (fingerprint_extractor.py).
PERCENTILES = {"percentile_00_5": 0.5, "median": 50.0, "percentile_99_5": 99.5}
# Distinct values are counted by a table, without sorting, up to this range of integers.
_MAX_TABLE = 1 << 22


@dataclass(frozen=True)
class Moments:
    """Number, mean and sum of squared deviations of some voxels."""

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def __add__(self, other: Moments) -> Moments:
        n = self.n + other.n
        if n == 0:
            return self
        apart = other.mean - self.mean
        squares = self.squares + other.squares + apart**2 * self.n * other.n / n
        return Moments(n, self.mean + apart * other.n / n, squares)


@dataclass(frozen=True)
class Tally:
    """The voxels of one case and channel.

    Attributes
    ----------
    values : ndarray of float32, shape (k,)
        Distinct values, ascending.
    below : ndarray of uint32, shape (k,)
        For each value, how many voxels are at or below it.
    moments : Moments
    """

    values: np.ndarray
    below: np.ndarray
    moments: Moments

    @classmethod
    def of(cls, voxels: np.ndarray) -> Tally:
        """Count `voxels` (float32, one axis, all finite)."""
        if len(voxels) == 0:
            return cls(np.empty(0, np.float32), np.empty(0, np.uint32), Moments())
        values, counts = _distinct(voxels)
        weights, exact = counts.astype(np.float64), values.astype(np.float64)
        mean = float(np.dot(weights, exact) / len(voxels))
        squares = float(np.dot(weights, (exact - mean) ** 2))
        return cls(values, np.cumsum(counts).astype(np.uint32), Moments(len(voxels), mean, squares))

    def at_or_below(self, numbers: np.ndarray) -> np.ndarray:
        """How many voxels are at or below each of `numbers`."""
        places = np.searchsorted(self.values, numbers, side="right")
        return np.where(places > 0, self.below[np.maximum(places, 1) - 1], 0) if len(self.values) else places * 0


def _distinct(voxels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = float(voxels.min()), float(voxels.max())
    if high - low < _MAX_TABLE:
        whole = voxels.astype(np.int64)
        if np.array_equal(whole, voxels):
            counts = np.bincount(whole - int(low))
            found = np.flatnonzero(counts)
            return (found + int(low)).astype(np.float32), counts[found]
    return np.unique(voxels.astype(np.float32, copy=False), return_counts=True)


def summarise(tallies: Sequence[Tally]) -> dict[str, float]:
    """Statistics of one channel over all cases: nnU-Net's mean, median, std, min, max and percentiles.

    Returns
    -------
    dict of str to float
        All 0 where no case has a voxel.
    """
    filled = [tally for tally in tallies if tally.moments.n]
    if not filled:
        return dict.fromkeys(("max", "mean", "median", "min", "percentile_00_5", "percentile_99_5", "std"), 0.0)
    total = sum((tally.moments for tally in filled), Moments())
    ranks = {name: (total.n - 1) * percent / 100 for name, percent in PERCENTILES.items()}
    wanted = sorted({int(step(rank)) for rank in ranks.values() for step in (np.floor, np.ceil)})
    at_rank = dict(zip(wanted, _order_statistics(filled, np.array(wanted)), strict=True))
    found = {}
    for name, rank in ranks.items():
        lower, upper = at_rank[int(np.floor(rank))], at_rank[int(np.ceil(rank))]
        found[name] = lower + (upper - lower) * (rank - np.floor(rank))
    found |= {"mean": total.mean, "std": float(np.sqrt(total.squares / total.n))}
    found |= {"min": min(float(t.values[0]) for t in filled), "max": max(float(t.values[-1]) for t in filled)}
    return {name: float(found[name]) for name in sorted(found)}


def _order_statistics(tallies: Sequence[Tally], ranks: np.ndarray) -> list[float]:
    """The values that would stand at `ranks` (from 0) if all voxels were sorted."""
    low = np.full(len(ranks), _key(np.float32(-np.inf)), dtype=np.int64)
    high = np.full(len(ranks), _key(np.float32(np.inf)), dtype=np.int64)
    while (low < high).any():
        middle = (low + high) // 2
        numbers = _from_key(middle)
        below = np.sum([tally.at_or_below(numbers) for tally in tallies], axis=0, dtype=np.int64)
        enough = below > ranks
        high = np.where(enough, middle, high)
        low = np.where(enough, low, middle + 1)
    return [float(value) for value in _from_key(high)]


def _key(number: np.float32) -> int:
    """An integer that orders float32 numbers as the numbers themselves."""
    bits = int(np.asarray(number, dtype=np.float32).view(np.int32))
    return bits if bits >= 0 else -(bits & 0x7FFFFFFF)


def _from_key(keys: np.ndarray) -> np.ndarray:
    bits = np.where(keys >= 0, keys, 0x80000000 | -keys).astype(np.uint32)
    return bits.view(np.float32)

"""Combining probabilities: arrays of shape (k, z, y, x), one per member, into one of the same shape.

Members are visited one after the other, so that they may be read lazily: one member and the sum are in memory at a
time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from bts_auto.errors import DataError

# Keeps the logarithm finite; far below what an 8-bit or 16-bit probability can tell from 0.
_SMALLEST = 1e-6


def mean(members: Iterable[np.ndarray]) -> np.ndarray:
    """Arithmetic mean of `members`, float32.

    Raises
    ------
    DataError
        When there is no member, or shapes differ.
    """
    return weighted(members, None)


def weighted(members: Iterable[np.ndarray], weights: Sequence[float] | None) -> np.ndarray:
    """Weighted arithmetic mean, float32; weights are normalised to sum 1, None: equal.

    Raises
    ------
    DataError
        When there is no member, shapes differ, or the weights are not one for each member with a positive sum.
    """
    total, norm = _weighted_sum(members, weights, lambda member: np.asarray(member, np.float32))
    total /= np.float32(norm)
    return total


def geometric_mean(
    members: Iterable[np.ndarray], weights: Sequence[float] | None = None, *, exclusive: bool = True
) -> np.ndarray:
    """Weighted geometric mean (logarithmic opinion pool), renormalised, float32.

    Parameters
    ----------
    members : iterable of ndarray, shape (k, ...)
        Probabilities.
    exclusive : bool
        Whether the k outputs exclude one another (labels; they are renormalised to sum 1) or each is a region of its
        own (renormalised against its complement).

    References
    ----------
    Heskes, Selecting weighting factors in logarithmic opinion pools, NIPS (1997).
    """
    if exclusive:
        total, norm = _weighted_sum(members, weights, _log)
        total = np.exp(total / np.float32(norm))
        total /= total.sum(axis=0, keepdims=True)
        return total
    # For a region and its complement the pool is the logistic function of the mean logit.
    total, norm = _weighted_sum(members, weights, lambda p: _log(p) - _log(1 - np.asarray(p, np.float32)))
    return 1 / (1 + np.exp(-total / np.float32(norm)))


def _log(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(np.asarray(probabilities, np.float32), _SMALLEST))


def _weighted_sum(members: Iterable[np.ndarray], weights: Sequence[float] | None, view) -> tuple[np.ndarray, float]:
    total: np.ndarray | None = None
    used: list[float] = []
    for member in members:
        if weights is not None and len(used) == len(weights):
            raise DataError(f"{len(weights)} weights for more members")
        used.append(1.0 if weights is None else weights[len(used)])
        part = view(member) * np.float32(used[-1])
        if total is None:
            total = part
        elif total.shape != part.shape:
            raise DataError(f"members of shapes {total.shape} and {part.shape} cannot be combined")
        else:
            total += part
    if total is None:
        raise DataError("no member to combine")
    if (weights is not None and len(weights) != len(used)) or sum(used) <= 0 or min(used) < 0:
        raise DataError(f"weights {weights} for {len(used)} members", mend="give one for each, none negative")
    return total, sum(used)

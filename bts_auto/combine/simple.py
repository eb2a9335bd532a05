"""SIMPLE: weighted voting in which members that disagree with the rest are dropped."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bts_auto.combine.vote import vote
from bts_auto.errors import DataError


def simple(masks: Sequence[np.ndarray], *, iterations: int = 25, alpha: float = 1.0) -> np.ndarray:
    """Selective and iterative method for performance level estimation of boolean `masks`.

    The estimate starts as the majority; in each round members are weighted by their Dice with it, those more than
    `alpha` standard deviations below the mean Dice are dropped for good, and the rest vote again, until nothing
    changes.

    Returns
    -------
    ndarray of bool
        Foreground where more than half of the weight says so.

    References
    ----------
    Langerak et al., Label fusion in atlas-based segmentation using a selective and iterative method for performance
    level estimation (SIMPLE), IEEE TMI 29 (2010), section II-C.
    """
    if not masks:
        raise DataError("no member to combine")
    kept = [np.asarray(mask, bool) for mask in masks]
    estimate = vote([mask.view(np.uint8) for mask in kept], ties="background").astype(bool)
    for _ in range(iterations):
        performance = np.array([_dice(mask, estimate) for mask in kept])
        staying = performance >= performance.mean() - alpha * performance.std() - 1e-12
        kept = [mask for mask, stays in zip(kept, staying, strict=True) if stays]
        weights = performance[staying]
        if weights.sum() == 0:
            return estimate
        last, estimate = estimate, vote([m.view(np.uint8) for m in kept], weights, ties="background").astype(bool)
        if staying.all() and np.array_equal(last, estimate):
            break
    return estimate


def simple_regions(
    masks: Sequence[np.ndarray],
    regions: Sequence[tuple[int, ...]],
    painted: Sequence[int],
    *,
    iterations: int = 25,
    alpha: float = 1.0,
) -> np.ndarray:
    """SIMPLE for each region (the integers that belong to it), painted in order."""
    if not masks:
        raise DataError("no member to combine")
    out = np.zeros_like(masks[0])
    for members, value in zip(regions, painted, strict=True):
        out[simple([np.isin(mask, members) for mask in masks], iterations=iterations, alpha=alpha)] = value
    return out


def _dice(first: np.ndarray, second: np.ndarray) -> float:
    total = np.count_nonzero(first) + np.count_nonzero(second)
    return 2 * np.count_nonzero(first & second) / total if total else 1.0

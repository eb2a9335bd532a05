"""How unsure the members are together: the entropy of their averaged answer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from bts_auto.data.labels import Labels
from bts_auto.plan.schema import Resampling
from bts_auto.predict.export import to_scan
from bts_auto.preprocess.spatial import SpatialSteps

# Probabilities are kept this far from 0, where the logarithm has no value.
_SMALLEST = 1e-12


def entropy(scores: np.ndarray, labels: Labels, *, logits: bool = False) -> np.ndarray:
    """Entropy of each voxel, as a share of the largest possible one.

    Parameters
    ----------
    scores : ndarray of float, shape (k, z, y, x)
        Probabilities (or logits) of `labels.outputs`, averaged over folds, mirrored inputs and tiles.
    labels : Labels
        Exclusive labels: entropy of the distribution over them. Regions: the mean of their binary entropies.

    Returns
    -------
    ndarray of float32, shape (z, y, x)
        0 where one label is certain, 1 where all are equally likely (every region is a toss-up).

    References
    ----------
    C. E. Shannon, "A mathematical theory of communication", Bell System Technical Journal 27, 1948, section 6.
    """
    return entropy_of(_probabilities(scores, labels) if logits else scores, labels)


def entropy_of(channels: Iterable[np.ndarray], labels: Labels) -> np.ndarray:
    """:func:`entropy` of probabilities (z, y, x) that come one channel at a time."""
    total: np.ndarray | float = 0.0
    count = 0
    for channel in channels:
        one = channel.astype(np.float32, copy=False)
        total = total + _surprise(one)
        if labels.has_regions:
            total += _surprise(1 - one)
        count += 1
    largest = count * math.log(2) if labels.has_regions else math.log(max(count, 2))
    return np.clip(total / largest, 0, 1)


def _probabilities(logits: np.ndarray, labels: Labels) -> Iterator[np.ndarray]:
    """Logits as probabilities, one channel at a time."""
    normaliser = None if labels.has_regions else _log_sum_exp(logits)
    for channel in logits:
        one = channel.astype(np.float32)
        yield 1 / (1 + np.exp(-one)) if normaliser is None else np.exp(one - normaliser)


def export_entropy(
    scores: np.ndarray, steps: SpatialSteps, labels: Labels, resampling: Resampling, *, logits: bool = False
) -> np.ndarray:
    """:func:`entropy` in the scan's grid, float32 (z, y, x); 0 outside the crop."""
    return to_scan(entropy(scores, labels, logits=logits), steps, resampling)


def _surprise(probability: np.ndarray) -> np.ndarray:
    return -probability * np.log(np.maximum(probability, _SMALLEST))


def _log_sum_exp(scores: np.ndarray) -> np.ndarray:
    top = scores.max(axis=0).astype(np.float32)
    total = np.zeros_like(top)
    for score in scores:
        total += np.exp(score.astype(np.float32) - top)
    return top + np.log(total)

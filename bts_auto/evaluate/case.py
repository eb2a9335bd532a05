"""All scores of one case."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Iterable, Mapping

import numpy as np

from bts_auto.evaluate.empty import EmptyRule, empty_rule
from bts_auto.evaluate.metric import NamedMetric, resolve
from bts_auto.evaluate.pair import Pair, union_box

CaseScores = dict[str, dict[str, float]]
RegionProbability = Callable[[tuple[int, ...]], np.ndarray | None]
"""The probability (z, y, x) of a region, given as its integers; None where it is not known."""


def score_case(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing: tuple[float, ...],
    regions: Mapping[str, tuple[int, ...]],
    metrics: Iterable[str] | Iterable[NamedMetric] | None = None,
    *,
    empty: str | Mapping | EmptyRule = "nan",
    ignore: int | None = None,
    told: Collection[str] | None = None,
    probability: RegionProbability | None = None,
) -> CaseScores:
    """Score a label map against a reference.

    Parameters
    ----------
    prediction, reference : ndarray of int, shape (z, y, x)
        Label maps on one grid.
    spacing : tuple of float
        Voxel distances (z, y, x) in mm.
    regions : mapping of str to tuple of int
        The integers that belong to each scored label or region (see :meth:`bts_auto.data.labels.Labels.scoring`).
    metrics : iterable of str, optional
        Names as :func:`bts_auto.evaluate.metric.resolve` takes them, or what it returns.
    empty : str, mapping or EmptyRule
        What undefined scores are.
    ignore : int, optional
        Voxels where the reference has this integer count for nothing.
    told : collection of str, optional
        The labels and regions that the reference tells; the scores of others are NaN whatever `empty` says. None: all
        of them.
    probability : callable, optional
        For scores of probabilities, which are NaN without.

    Returns
    -------
    dict of str to dict of str to float
        ``scores[region][metric]``; a score may be NaN.
    """
    if prediction.shape != reference.shape:
        raise ValueError(f"label maps of shapes {prediction.shape} and {reference.shape}")
    chosen = _resolved(metrics)
    rule = empty_rule(empty)
    voxels, whole = reference.size, reference
    if ignore is not None:
        ignored = reference == ignore
        voxels -= int(np.count_nonzero(ignored))
        prediction = np.where(ignored, 0, prediction)
        reference = np.where(ignored, 0, reference)
    planar = reference.shape[0] == 1
    box = union_box(prediction != 0, reference != 0)
    prediction, reference = prediction[box], reference[box]
    scores: CaseScores = {}
    for name, members in regions.items():
        if told is not None and name not in told:
            scores[name] = {one.name: math.nan for one in chosen}
            continue
        mine, theirs = member_mask(prediction, members), member_mask(reference, members)
        levels = functools.partial(_levels, prediction, reference, members)
        judged = None
        if probability is not None and (given := probability(members)) is not None:
            judged = functools.partial(_judged, given, whole, members, ignore)
        pair = Pair(mine, theirs, spacing, voxels=voxels, planar=planar, levels=levels, judged=judged)
        scores[name] = {one.name: one(pair, rule) for one in chosen}
    return scores


def _resolved(metrics: Iterable[str] | Iterable[NamedMetric] | None) -> tuple[NamedMetric, ...]:
    given = () if metrics is None else tuple(metrics)
    ready = tuple(one for one in given if isinstance(one, NamedMetric))
    if ready and len(ready) == len(given):
        return ready
    return resolve(None if metrics is None else [str(one) for one in given])


def _levels(
    prediction: np.ndarray, reference: np.ndarray, members: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, int]:
    """Both label maps with the position of each integer among the sorted `members`, from 1 on, and their number."""
    ordered = np.array(sorted(members))
    maps = [np.where(np.isin(m, ordered), np.searchsorted(ordered, m) + 1, 0) for m in (prediction, reference)]
    return maps[0], maps[1], len(members)


def _judged(
    probability: np.ndarray, reference: np.ndarray, members: tuple[int, ...], ignore: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Probability and truth of a region in the voxels that count."""
    truth = member_mask(reference, members)
    if ignore is None:
        return probability.ravel(), truth.ravel()
    counts = reference != ignore
    return probability[counts], truth[counts]


def member_mask(mask: np.ndarray, members: tuple[int, ...]) -> np.ndarray:
    """Where a label map holds one of the integers `members`; boolean, same shape."""
    found = mask == members[0]
    for value in members[1:]:
        found |= mask == value
    return found

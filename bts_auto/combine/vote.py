"""Majority voting of label maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bts_auto.combine.options import Ties
from bts_auto.errors import DataError


def vote(masks: Sequence[np.ndarray], weights: Sequence[float] | None = None, *, ties: Ties = "first") -> np.ndarray:
    """The label with most votes in every voxel.

    Parameters
    ----------
    masks : sequence of ndarray of int, one shape
        A label map per member.
    weights : sequence of float, optional
        How much each member's vote counts; default: all alike.
    ties : {"first", "lowest", "background"}
        Which label wins where several share the most votes: the one among them that the earliest member voted for, the
        lowest integer, or background (0), even when background is not among them.

    Returns
    -------
    ndarray
        Of the members' shape and the first one's type.

    Raises
    ------
    DataError
        When there is no member, shapes differ, or the weights do not fit.
    """
    _check(masks, weights)
    amounts = np.ones(len(masks)) if weights is None else np.asarray(weights, np.float64)
    candidates = _in_order(masks, ties)
    best = np.zeros(masks[0].shape, np.float32)
    winner = np.zeros(masks[0].shape, masks[0].dtype)
    if ties == "first":
        for candidate in masks:
            votes = _votes(masks, amounts, candidate)
            ahead = votes > best
            winner[ahead] = candidate[ahead]
            best[ahead] = votes[ahead]
        return winner
    for label in candidates:
        votes = _votes(masks, amounts, label)
        if ties == "background":
            winner[votes == best] = 0
        ahead = votes > best
        winner[ahead] = label
        best[ahead] = votes[ahead]
    return winner


def _in_order(masks: Sequence[np.ndarray], ties: Ties) -> list[int]:
    return [] if ties == "first" else sorted({int(label) for mask in masks for label in np.unique(mask)})


def _votes(masks: Sequence[np.ndarray], amounts: np.ndarray, label: int | np.ndarray) -> np.ndarray:
    votes = np.zeros(masks[0].shape, np.float32)
    for mask, amount in zip(masks, amounts, strict=True):
        votes += (mask == label) * np.float32(amount)
    return votes


def _check(masks: Sequence[np.ndarray], weights: Sequence[float] | None) -> None:
    if not masks:
        raise DataError("no member to combine")
    shapes = {mask.shape for mask in masks}
    if len(shapes) > 1:
        raise DataError(f"members of shapes {', '.join(map(str, sorted(shapes)))} cannot be combined")
    if weights is not None and (len(weights) != len(masks) or min(weights) < 0 or sum(weights) <= 0):
        raise DataError(f"weights {tuple(weights)} for {len(masks)} members", mend="give one for each, none negative")

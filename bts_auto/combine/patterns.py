"""The distinct combinations of votes in a stack of label maps, and how often each occurs.

Estimates over voxels (STAPLE) see nothing of a voxel but its votes. A whole volume has few distinct combinations, so
that iterating over them instead of over voxels is both exact and several thousand times less work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bts_auto.errors import DataError

_MOST_CODES = 2**62


@dataclass(frozen=True)
class Patterns:
    """Distinct combinations of votes.

    Attributes
    ----------
    labels : ndarray, shape (l,)
        The integers that occur, sorted.
    votes : ndarray of int, shape (p, m)
        For each pattern the position in `labels` that each of m members voted for.
    counts : ndarray of int, shape (p,)
        Voxels with each pattern.
    where : ndarray of int, shape of the masks
        For each voxel its pattern.
    """

    labels: np.ndarray
    votes: np.ndarray
    counts: np.ndarray
    where: np.ndarray


def vote_patterns(masks: Sequence[np.ndarray]) -> Patterns:
    """Find the patterns in `masks`, label maps of one shape.

    Raises
    ------
    DataError
        When there is no member, shapes differ, or there are too many members and labels to number their combinations.
    """
    if not masks:
        raise DataError("no member to combine")
    if len({mask.shape for mask in masks}) > 1:
        raise DataError("members of different shapes cannot be combined")
    labels = np.unique(np.concatenate([np.unique(mask) for mask in masks]))
    base = len(labels)
    if base ** len(masks) > _MOST_CODES:
        raise DataError(f"{len(masks)} members with {base} labels are too many for STAPLE", mend="combine them by vote")
    codes = np.zeros(masks[0].shape, np.int64)
    for mask in masks:
        codes *= base
        codes += np.searchsorted(labels, mask)
    distinct, where, counts = np.unique(codes, return_inverse=True, return_counts=True)
    votes = np.empty((len(distinct), len(masks)), np.int64)
    rest = distinct.copy()
    for member in reversed(range(len(masks))):
        rest, votes[:, member] = np.divmod(rest, base)
    return Patterns(labels, votes, counts, where.reshape(masks[0].shape))

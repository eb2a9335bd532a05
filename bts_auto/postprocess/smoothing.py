"""Smoothing by the majority in a neighbourhood."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from bts_auto.evaluate.pair import union_box
from bts_auto.postprocess.context import Context
from bts_auto.postprocess.options import SmoothingOptions


def smoothing(mask: np.ndarray, context: Context, options: SmoothingOptions) -> np.ndarray:
    """Give every voxel the label most frequent in the cube around it; in a tie it keeps its own, else the lowest.

    Outside the image counts as background.
    """
    margin = options.radius
    box = tuple(
        slice(max(s.start - margin, 0), min(s.stop + margin, n)) if s.stop else s
        for s, n in zip(union_box(mask != 0), mask.shape, strict=True)
    )
    part = mask[box]
    if part.size == 0:
        return mask.copy()
    width = 2 * options.radius + 1
    size = (1 if mask.shape[0] == 1 else width, width, width)
    best = np.zeros(part.shape, np.int32)
    own = np.zeros(part.shape, np.int32)
    winner = np.zeros_like(part)
    for label in np.unique(part):
        votes = _count(part == label, size, outside=label == 0)
        own[part == label] = votes[part == label]
        ahead = votes > best
        winner[ahead], best[ahead] = label, votes[ahead]
    out = mask.copy()
    out[box] = np.where(own == best, part, winner)
    return out


def _count(where: np.ndarray, size: tuple[int, ...], outside: bool) -> np.ndarray:
    """Voxels of `where` in the cube around each voxel."""
    votes = where.astype(np.int32)
    for axis, width in enumerate(size):
        ones = np.ones(width, np.int32)
        # Along each axis the outside holds full lines of what the axes before it have added up.
        line = int(np.prod(size[:axis])) if outside else 0
        votes = ndimage.correlate1d(votes, ones, axis=axis, mode="constant", cval=line)
    return votes

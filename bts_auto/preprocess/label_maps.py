"""Resampling of label maps: each voxel gets the label whose interpolated indicator is largest.

No label ever gets a volume of scores. With linear interpolation a voxel between equal neighbours keeps their label, so
that scores are worked out only along borders; splines of higher order, which reach far, are worked on slab by slab.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from bts_auto.preprocess.operators import AxisOperator, apply_axis, axis_operator, nearest_index, sample_positions

# Scores that differ by less are a tie. Weights add up to 1 within 1e-15 in float64 and within 1e-6 in float32.
_TIE, _TIE_OF_SPLINES = 1e-12, 1e-5
# Output voxels of a slab, and border voxels whose scores are in memory at once.
_SLAB_VOXELS = 1 << 20
_SPLINE_SLAB_VOXELS = 1 << 19
_PIECE = 1 << 15


def largest_score(mask: np.ndarray, shape: Sequence[int], order: int) -> np.ndarray:
    """The label with the largest interpolated indicator; among equals that of the nearest voxel, else the smallest.

    The nearest voxel's label decides only where it is one of the equals. These are the rules of nnU-Net's
    ``resize_segmentation`` (batchgenerators 0.25.5).

    Parameters
    ----------
    mask : ndarray of int, shape (z, y, x)
    shape : sequence of int, length 3
        Axes that keep their size are left as they are.
    order : int
        0 (the nearest voxel's label), 1 or higher.

    Returns
    -------
    ndarray of int, shape `shape`
        Of the type of `mask`; `mask` itself when the shape does not change.
    """
    target = (int(shape[0]), int(shape[1]), int(shape[2]))
    if mask.shape == target:
        return mask
    if order == 0:
        return _gather(mask, [nearest_index(a, b) for a, b in zip(mask.shape, target, strict=True)])
    mask = np.ascontiguousarray(mask)
    return _linear(mask, target) if order == 1 else _splines(mask, target, order)


def _gather(array: np.ndarray, index: Sequence[np.ndarray]) -> np.ndarray:
    """``array[np.ix_(*index)]``, axis by axis, which copies whole lines where it can."""
    for axis, where in enumerate(index):
        if len(where) != array.shape[axis] or where[0] != 0 or where[-1] != len(where) - 1:
            array = array.take(where, axis=axis)
    return array


@dataclass(frozen=True)
class _Axis:
    """Linear interpolation along one axis: between samples ``left`` and ``left + 1``, at `fraction` between them.

    `fraction` is None where each output sample copies one input sample.
    """

    left: np.ndarray
    fraction: np.ndarray | None
    nearest: np.ndarray

    @classmethod
    def between(cls, n_in: int, n_out: int) -> _Axis:
        nearest = np.arange(n_in) if n_in == n_out else nearest_index(n_in, n_out)
        if n_in == n_out or n_in == 1:
            return cls(nearest, None, nearest)
        at = np.clip(sample_positions(n_in, n_out), 0, n_in - 1)
        left = np.minimum(np.floor(at).astype(np.intp), n_in - 2)
        return cls(left, at - left, nearest)

    def rows(self, start: int, stop: int) -> tuple[slice, _Axis]:
        """The input that output ``start:stop`` needs, and the axis within it."""
        left = self.left[start:stop]
        reach = 1 if self.fraction is None else 2
        used = slice(int(left[0]), int(left[-1]) + reach)
        fraction = None if self.fraction is None else self.fraction[start:stop]
        return used, _Axis(left - used.start, fraction, self.nearest[start:stop] - used.start)


def _linear(mask: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    axes = [_Axis.between(n_in, n_out) for n_in, n_out in zip(mask.shape, shape, strict=True)]
    out = np.empty(shape, mask.dtype)
    thickness = max(1, _SLAB_VOXELS // (shape[1] * shape[2]))
    for start in range(0, shape[0], thickness):
        stop = min(start + thickness, shape[0])
        used, first = axes[0].rows(start, stop)
        slab = [first, *axes[1:]]
        out[start:stop] = _gather(mask[used], [axis.nearest for axis in slab])
        _mend_borders(out[start:stop], mask[used], slab)
    return out


def _mend_borders(out: np.ndarray, source: np.ndarray, axes: list[_Axis]) -> None:
    """Replace the nearest labels in `out` by those with the largest score where the neighbours differ."""
    lowest = highest = source
    for number, axis in enumerate(axes):
        if axis.fraction is not None:
            one, other = _neighbours(lowest, number), _neighbours(highest, number)
            lowest, highest = np.minimum(*one), np.maximum(*other)
    border = np.flatnonzero(_gather(lowest != highest, [axis.left for axis in axes]))
    flat = out.reshape(-1)
    for start in range(0, border.size, _PIECE):
        piece = border[start : start + _PIECE]
        flat[piece] = _border_labels(np.unravel_index(piece, out.shape), source, axes, flat[piece])


def _neighbours(array: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    lead = (slice(None),) * axis
    return array[(*lead, slice(None, -1))], array[(*lead, slice(1, None))]


def _border_labels(at: Sequence[np.ndarray], source: np.ndarray, axes: list[_Axis], nearest: np.ndarray) -> np.ndarray:
    """Labels of some output voxels (`at` holds their indices along each axis) from their 2, 4 or 8 neighbours."""
    strides = (source.shape[1] * source.shape[2], source.shape[2], 1)
    base = sum(axis.left[where] * stride for axis, where, stride in zip(axes, at, strides, strict=True))
    sides = []
    for axis, where, stride in zip(axes, at, strides, strict=True):
        fraction = None if axis.fraction is None else axis.fraction[where]
        sides.append([(0, None)] if fraction is None else [(0, 1 - fraction), (stride, fraction)])
    neighbours, weights = [], []
    for corner in product(*sides):
        neighbours.append(source.reshape(-1)[base + sum(offset for offset, _ in corner)])
        weights.append(np.prod([weight for _, weight in corner if weight is not None], axis=0))
    labels = np.unique(np.stack(neighbours))
    best, of_nearest = np.zeros(nearest.shape), np.zeros(nearest.shape)
    winner = np.full(nearest.shape, labels[0], source.dtype)
    for label in labels:
        score = np.zeros(nearest.shape)
        for neighbour, weight in zip(neighbours, weights, strict=True):
            np.add(score, weight, out=score, where=neighbour == label)
        _challenge(label, score, best, winner, of_nearest, nearest, _TIE)
    return np.where(of_nearest >= best - _TIE, nearest, winner)


def _challenge(
    label: int,
    score: np.ndarray,
    best: np.ndarray,
    winner: np.ndarray,
    of_nearest: np.ndarray,
    nearest: np.ndarray,
    tie: float,
) -> None:
    """Let a label compete with those before it, in place; ties stay with the smallest."""
    np.copyto(of_nearest, score, where=nearest == label)
    np.copyto(winner, label, where=score > best + tie)
    np.maximum(best, score, out=best)


def _splines(mask: np.ndarray, shape: tuple[int, int, int], order: int) -> np.ndarray:
    """Splines of order 2 and more, whose indicators are clipped to 0..1 as scikit-image's `resize` does."""
    operators = [axis_operator(n_in, n_out, order) for n_in, n_out in zip(mask.shape, shape, strict=True)]
    nearest = [_Axis.between(n_in, n_out).nearest for n_in, n_out in zip(mask.shape, shape, strict=True)]
    out = np.empty(shape, mask.dtype)
    thickness = max(1, _SPLINE_SLAB_VOXELS // (shape[1] * shape[2]))
    for start in range(0, shape[0], thickness):
        rows = slice(start, min(start + thickness, shape[0]))
        used = operators[0].inputs(rows.start, rows.stop)
        guess = _gather(mask, [nearest[0][rows], *nearest[1:]])
        out[rows] = _spline_labels(mask[used], guess, [operators[0].part(rows), *operators[1:]])
    return out


def _spline_labels(source: np.ndarray, nearest: np.ndarray, operators: list[AxisOperator]) -> np.ndarray:
    labels = np.unique(source)
    best, of_nearest = np.zeros(nearest.shape, np.float32), np.zeros(nearest.shape, np.float32)
    winner = np.full(nearest.shape, labels[0], source.dtype)
    for label in labels:
        score = (source == label).astype(np.float32)
        for axis, operator in enumerate(operators):
            score = apply_axis(score, operator, axis)
        np.clip(score, 0, 1, out=score)
        _challenge(label, score, best, winner, of_nearest, nearest, _TIE_OF_SPLINES)
    return np.where(of_nearest >= best - _TIE_OF_SPLINES, nearest, winner)

"""Resampling along one axis as a matrix: B-spline prefilter and interpolation folded into one banded operator.

Interpolation on a regular grid is separable: bringing a volume to another grid is three products with small matrices.
The numbers are those of `scipy.ndimage.zoom(..., grid_mode=True, mode="nearest")`, which scikit-image's `resize` calls
for ``mode="edge"``: voxels are boxes, output voxel o lies at ``(o + 0.5) * n_in / n_out - 0.5``, and outside the image
its edge goes on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

# A spline of order 3 needs samples beyond the border. SciPy repeats the edge this many times before it prefilters.
_EDGE_SAMPLES = 12
# Weights below this change nothing in float32; leaving them out makes the matrix a band.
_NEGLIGIBLE = 1e-9
# Output rows that are computed in one product. Small enough to keep the band narrow, large enough for BLAS to be fast.
_BLOCK_ROWS = 48
MAX_ORDER = 5


@dataclass(frozen=True, eq=False)
class AxisOperator:
    """A linear map from `n_in` samples to `n_out` samples.

    Attributes
    ----------
    matrix : ndarray of float32, shape (n_out, n_in)
        Row o holds the weights of the input samples in output sample o.
    first, stop : ndarray of int, shape (n_out,)
        Row o has weights in columns ``first[o]:stop[o]`` only.
    index : ndarray of int, shape (n_out,), or None
        For order 0 the one input sample that each output sample copies.
    """

    matrix: np.ndarray
    first: np.ndarray
    stop: np.ndarray
    index: np.ndarray | None = None

    @property
    def n_in(self) -> int:
        """Samples that go in."""
        return self.matrix.shape[1]

    @property
    def n_out(self) -> int:
        """Samples that come out."""
        return self.matrix.shape[0]

    @property
    def is_identity(self) -> bool:
        """Whether nothing changes (equal grids)."""
        return self.n_in == self.n_out and self.index is not None and bool((self.index == np.arange(self.n_in)).all())

    def inputs(self, start: int, stop: int) -> slice:
        """The input samples that output samples ``start:stop`` need."""
        return slice(int(self.first[start:stop].min()), int(self.stop[start:stop].max()))

    def part(self, outputs: slice) -> AxisOperator:
        """The operator that makes `outputs` from the array cut to the inputs that they need (see :meth:`inputs`)."""
        used = self.inputs(outputs.start, outputs.stop)
        return AxisOperator(
            np.ascontiguousarray(self.matrix[outputs, used]),
            self.first[outputs] - used.start,
            self.stop[outputs] - used.start,
            None if self.index is None else self.index[outputs] - used.start,
        )


def sample_positions(n_in: int, n_out: int) -> np.ndarray:
    """Where the output samples lie, in input samples, shape (n_out,)."""
    # This order of operations gives the same last bits as SciPy, which decides ties of order 0.
    return (np.arange(n_out) + 0.5) * (n_in / n_out) - 0.5


@lru_cache(maxsize=256)
def axis_operator(n_in: int, n_out: int, order: int) -> AxisOperator:
    """The operator that resamples `n_in` samples to `n_out` with a spline of the given order.

    Parameters
    ----------
    n_in, n_out : int
        Samples along the axis before and after.
    order : int
        0 (nearest), 1 (linear) to 5; 3 is cubic.

    Raises
    ------
    ValueError
        For an order outside 0 to 5 or an empty axis.

    References
    ----------
    M. Unser, "Splines: a perfect fit for signal and image processing", IEEE Signal Processing Magazine 16(6), 1999.
    """
    if not 0 <= order <= MAX_ORDER:
        raise ValueError(f"spline order {order}, not 0 to {MAX_ORDER}")
    if n_in < 1 or n_out < 1:
        raise ValueError(f"cannot resample {n_in} samples to {n_out}")
    if n_in == n_out or order == 0:
        index = np.arange(n_in) if n_in == n_out else nearest_index(n_in, n_out)
        matrix = np.zeros((n_out, n_in), np.float32)
        matrix[np.arange(n_out), index] = 1
        return _frozen(matrix, index)
    weights = _linear_weights(n_in, n_out) if order == 1 else _spline_weights(n_in, n_out, order)
    weights[np.abs(weights) < _NEGLIGIBLE] = 0
    return _frozen(weights.astype(np.float32), None)


def nearest_index(n_in: int, n_out: int) -> np.ndarray:
    """The input sample nearest to each output sample, shape (n_out,); halves go up."""
    return np.clip(np.floor(sample_positions(n_in, n_out) + 0.5).astype(np.intp), 0, n_in - 1)


def _frozen(matrix: np.ndarray, index: np.ndarray | None) -> AxisOperator:
    used = matrix != 0
    first = used.argmax(axis=1)
    stop = matrix.shape[1] - used[:, ::-1].argmax(axis=1)
    for array in (matrix, first, stop, index):
        if array is not None:
            array.setflags(write=False)
    return AxisOperator(matrix, first, stop, index)


def _linear_weights(n_in: int, n_out: int) -> np.ndarray:
    at = np.clip(sample_positions(n_in, n_out), 0, n_in - 1)
    left = np.minimum(np.floor(at).astype(np.intp), max(n_in - 2, 0))
    right = np.minimum(left + 1, n_in - 1)
    weights = np.zeros((n_out, n_in))
    rows = np.arange(n_out)
    weights[rows, left] += 1 - (at - left)
    weights[rows, right] += at - left
    return weights


def _spline_weights(n_in: int, n_out: int, order: int) -> np.ndarray:
    """Interpolation with B-splines: ``evaluate @ inverse(collocate) @ extend``, shape (n_out, n_in)."""
    padded = n_in + 2 * _EDGE_SAMPLES
    reach = order // 2 + 1
    collocate = np.zeros((padded, padded))
    samples = np.arange(padded)
    for shift in range(-reach, reach + 1):
        np.add.at(collocate, (samples, _mirrored(samples + shift, padded)), b_spline(np.array(shift), order))
    at = sample_positions(n_in, n_out) + _EDGE_SAMPLES
    nearest = np.floor(at + 0.5).astype(np.intp)
    evaluate = np.zeros((n_out, padded))
    for shift in range(-reach, reach + 1):
        column = nearest + shift
        np.add.at(evaluate, (np.arange(n_out), _mirrored(column, padded)), b_spline(at - column, order))
    on_padded = np.linalg.solve(collocate.T, evaluate.T).T
    weights = on_padded[:, _EDGE_SAMPLES : _EDGE_SAMPLES + n_in].copy()
    weights[:, 0] += on_padded[:, :_EDGE_SAMPLES].sum(axis=1)
    weights[:, -1] += on_padded[:, _EDGE_SAMPLES + n_in :].sum(axis=1)
    return weights


def _mirrored(index: np.ndarray, n: int) -> np.ndarray:
    """Indices beyond the ends folded back, the end samples repeated (d c b a | a b c d | d c b a)."""
    folded = np.mod(index, 2 * n)
    return np.where(folded < n, folded, 2 * n - 1 - folded)


def b_spline(x: np.ndarray, order: int) -> np.ndarray:
    """The centred cardinal B-spline of the given order at `x` (Unser 1999, equation 2)."""
    total = np.zeros_like(np.asarray(x, dtype=np.float64))
    for k in range(order + 2):
        knot = x - k + (order + 1) / 2
        total = total + (-1) ** k * math.comb(order + 1, k) * np.maximum(knot, 0) ** order
    return total / math.factorial(order)


def apply_axis(array: np.ndarray, operator: AxisOperator, axis: int) -> np.ndarray:
    """Apply an operator along one axis.

    Parameters
    ----------
    array : ndarray
        Any shape with ``array.shape[axis] == operator.n_in``. float32 but for order 0, which keeps any type.
    operator : AxisOperator
        From :func:`axis_operator`, or a part of one.
    axis : int
        The axis along which it works.

    Returns
    -------
    ndarray
        The same shape but for `operator.n_out` along `axis`; `array` itself when nothing changes.
    """
    axis %= array.ndim
    if array.shape[axis] != operator.n_in:
        raise ValueError(f"axis {axis} has {array.shape[axis]} samples, the operator takes {operator.n_in}")
    if operator.index is not None:
        return array if operator.is_identity else np.take(array, operator.index, axis=axis)
    shape = array.shape
    before, after = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    source = np.ascontiguousarray(array, dtype=np.float32).reshape(before, operator.n_in, after)
    result = np.empty((before, operator.n_out, after), np.float32)
    for start in range(0, operator.n_out, _BLOCK_ROWS):
        rows = slice(start, min(start + _BLOCK_ROWS, operator.n_out))
        columns = operator.inputs(rows.start, rows.stop)
        block = operator.matrix[rows, columns]
        if after == 1:  # one product over all lines instead of one per line
            np.matmul(source[:, columns, 0], block.T, out=result[:, rows, 0])
        else:
            np.matmul(block, source[:, columns], out=result[:, rows])
    return result.reshape(*shape[:axis], operator.n_out, *shape[axis + 1 :])

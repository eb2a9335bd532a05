"""From scores in the network's grid to a label map in the scan's grid, without ever holding all classes at full size.

The result is that of resampling every channel and then taking the best one (or painting regions in order), but it is
worked out block by block: only the channels that can win somewhere in a block are resampled there, and where one
channel wins everywhere, none is.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from bts_auto import machine
from bts_auto.data.labels import BACKGROUND, Labels
from bts_auto.plan.schema import Resampling
from bts_auto.preprocess.operators import AxisOperator, apply_axis, axis_operator
from bts_auto.preprocess.resample import separate_axis
from bts_auto.preprocess.spatial import SpatialSteps

# Output voxels of a block along each axis: its scores fit a core's cache, and its matrix products are below the size at
# which BLAS libraries wake up threads of their own.
_BLOCK = (32, 64, 64)
# Below this many output voxels times channels, a pool of threads is not worth its start.
_WORTH_THREADS = 1 << 22

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class _Grid:
    """The way from the network's grid to the original voxels: one operator along each axis.

    `convex`: no weight is negative, so that between voxels no score leaves the range of its neighbours.
    """

    operators: tuple[AxisOperator, AxisOperator, AxisOperator]
    convex: bool

    @classmethod
    def of(cls, steps: SpatialSteps, resampling: Resampling) -> _Grid:
        change = steps.resample
        order = resampling.probabilities_order
        apart = separate_axis(change.new_spacing, change.spacing, resampling.separate_z)
        orders = [resampling.order_z if axis == apart else order for axis in range(3)]
        sizes = zip(steps.shape, steps.cropped_shape, orders, strict=True)
        z, y, x = (axis_operator(n_in, n_out, one) for n_in, n_out, one in sizes)
        return cls((z, y, x), max(orders) <= 1)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(operator.n_out for operator in self.operators)

    def blocks(self) -> Iterator[Box]:
        """Boxes of output voxels that cover everything."""
        starts = [range(0, size, step) for size, step in zip(self.shape, _BLOCK, strict=True)]
        for corner in itertools.product(*starts):
            ends = (min(a + step, size) for a, step, size in zip(corner, _BLOCK, self.shape, strict=True))
            z, y, x = (slice(a, b) for a, b in zip(corner, ends, strict=True))
            yield z, y, x

    def part(self, outputs: Box) -> tuple[list[AxisOperator], Box]:
        """The operators of one block, and the input voxels that they need."""
        z, y, x = (op.inputs(box.start, box.stop) for op, box in zip(self.operators, outputs, strict=True))
        return [op.part(box) for op, box in zip(self.operators, outputs, strict=True)], (z, y, x)


def export_labels(
    scores: np.ndarray,
    steps: SpatialSteps,
    labels: Labels,
    resampling: Resampling,
    *,
    logits: bool = False,
    workers: int | None = None,
) -> np.ndarray:
    """The label map of a case in the scan's grid.

    Parameters
    ----------
    scores : ndarray of float32 or float16, shape (k, z, y, x)
        Probabilities (or logits) of `labels.outputs` in the network's grid.
    steps : SpatialSteps
        How the scan got there.
    labels : Labels
        Exclusive labels: the best wins, the first among equals. Regions: painted in order where above a half.
    resampling : Resampling
        Orders with which scores are brought to the original voxels.
    logits : bool
        Whether `scores` are logits: they are resampled as such, and regions are painted where above 0. As in nnU-Net,
        resampled logits are compared in half precision, which decides near ties.
    workers : int, optional
        Threads; default: the cores that this process may use.

    Returns
    -------
    ndarray of uint8 (uint16 above 255 labels), shape (z, y, x)
        Voxels outside the crop are background.
    """
    if scores.shape != (len(labels.outputs), *steps.shape):
        raise ValueError(f"scores of shape {scores.shape} for {len(labels.outputs)} channels on {steps.shape}")
    grid = _Grid.of(steps, resampling)
    out = np.zeros(grid.shape, np.uint8 if max(labels.known_values) < 256 else np.uint16)
    limits = None if grid.convex else _limits(scores)
    half = logits and not steps.resample.is_identity

    def fill(box: Box) -> None:
        operators, source = grid.part(box)
        block = scores[(slice(None), *source)].astype(np.float32, copy=False)
        if labels.has_regions:
            _paint(block, operators, out[box], labels.regions_class_order, 0.0 if logits else 0.5, limits)
        else:
            _best(block, operators, out[box], [value[0] for value in labels.members()], limits, half)

    _over_blocks(fill, list(grid.blocks()), out.size * len(scores), workers)
    return steps.undo(out)


def export_scores(
    scores: np.ndarray,
    steps: SpatialSteps,
    labels: Labels,
    resampling: Resampling,
    *,
    logits: bool = False,
) -> Iterator[tuple[str, np.ndarray]]:
    """The probability of each label or region in the scan's grid, one at a time.

    Parameters
    ----------
    scores, steps, labels, resampling, logits
        As in :func:`export_labels`. Logits are resampled before they become probabilities.

    Yields
    ------
    name : str
        Of `labels.outputs`, in order.
    probability : ndarray of float32, shape (z, y, x)
        Outside the crop 1 for the background and 0 for everything else.
    """
    grid = _Grid.of(steps, resampling)
    normaliser = _log_sum(scores, grid) if logits and not labels.has_regions else None
    for name, channel in zip(labels.outputs, scores, strict=True):
        full = _resampled(channel, grid)
        if logits:
            full = 1 / (1 + np.exp(-full)) if normaliser is None else np.exp(full - normaliser)
        yield name, steps.undo(full, fill=float(name == BACKGROUND and not labels.has_regions))


def to_scan(array: np.ndarray, steps: SpatialSteps, resampling: Resampling) -> np.ndarray:
    """Bring floats (z, y, x) in the network's grid to the scan's, as one channel of scores; 0 outside the crop."""
    return steps.undo(_resampled(array, _Grid.of(steps, resampling)))


def _log_sum(scores: np.ndarray, grid: _Grid) -> np.ndarray:
    """log(sum(exp)) over the channels, resampled one after the other, shape (z, y, x)."""
    total = np.full(grid.shape, -np.inf, np.float32)
    for channel in scores:
        np.logaddexp(total, _resampled(channel, grid), out=total)
    return total


def _resampled(channel: np.ndarray, grid: _Grid) -> np.ndarray:
    """One channel in original voxels, clipped to its own range as scikit-image's resize does."""
    full = channel.astype(np.float32)
    for axis, operator in enumerate(grid.operators):
        full = apply_axis(full, operator, axis)
    return full if grid.convex else np.clip(full, channel.min(), channel.max())


def _limits(scores: np.ndarray) -> list[tuple[float, float]]:
    return [(float(channel.min()), float(channel.max())) for channel in scores]


def _over_blocks(fill, boxes: Sequence[Box], work: int, workers: int | None) -> None:
    workers = machine.cores() if workers is None else workers
    if workers > 1 and len(boxes) > 1 and work > _WORTH_THREADS:
        with ThreadPoolExecutor(workers) as pool:
            for _ in pool.map(fill, boxes):
                pass
    else:
        for box in boxes:
            fill(box)


def _interpolate(
    channel: np.ndarray, operators: Sequence[AxisOperator], limits: tuple[float, float] | None
) -> np.ndarray:
    """One channel of a block (z, y, x) in output voxels. Products of small matrices, the innermost axis first."""
    z, y, x = operators
    out = channel if x.is_identity else channel[..., x.index] if x.index is not None else np.matmul(channel, x.matrix.T)
    if not y.is_identity:
        out = out[:, y.index] if y.index is not None else np.matmul(y.matrix, out)
    if not z.is_identity:
        out = out[z.index] if z.index is not None else np.matmul(z.matrix, out.transpose(1, 0, 2)).transpose(1, 0, 2)
    return out if limits is None else np.clip(out, *limits)


def _best(
    block: np.ndarray,
    operators: Sequence[AxisOperator],
    out: np.ndarray,
    values: Sequence[int],
    limits: Sequence[tuple[float, float]] | None,
    half: bool,
) -> None:
    """Write the value of the best channel to `out`; `half`: scores are compared in half precision."""
    contenders = range(len(block)) if limits is not None else _contenders(block)
    best: np.ndarray | None = None
    for channel in contenders:
        if best is None and len(contenders) == 1:
            out[...] = values[channel]
            return
        score = _interpolate(block[channel], operators, None if limits is None else limits[channel])
        if half:
            score = _as_half(score)
        if best is None:
            out[...] = values[channel]
            best = score.copy() if np.shares_memory(score, block) else score
            continue
        np.copyto(out, values[channel], where=score > best, casting="unsafe")
        np.maximum(best, score, out=best)


def _as_half(array: np.ndarray) -> np.ndarray:
    """Round float32 to the 11 significant bits of float16, to even; without its limits, and several times as fast."""
    bits = array.view(np.uint32)
    rounded = bits >> np.uint32(13)
    rounded &= np.uint32(1)
    rounded += np.uint32(0x0FFF)
    rounded += bits
    rounded &= np.uint32(0xFFFFE000)
    return rounded.view(np.float32)


def _contenders(block: np.ndarray) -> Sequence[int]:
    """The channels that may win somewhere between the voxels of a block, if interpolation weights are not negative.

    A channel that lies below a mean of other channels at every voxel lies below it in between, hence below the best of
    them. The mean is taken over the channels that win at some voxel.
    """
    top = block.max(axis=0)
    winners = [channel for channel in range(len(block)) if (block[channel] >= top).any()]
    if len(winners) == 1:
        return winners
    mean = block[winners].mean(axis=0)
    return [channel for channel in range(len(block)) if channel in winners or (block[channel] >= mean).any()]


def _paint(
    block: np.ndarray,
    operators: Sequence[AxisOperator],
    out: np.ndarray,
    values: Sequence[int],
    threshold: float,
    limits: Sequence[tuple[float, float]] | None,
) -> None:
    """Paint each channel's value where it lies above the threshold, in order."""
    for channel, (score, value) in enumerate(zip(block, values, strict=True)):
        if limits is None and score.min() > threshold:
            out[...] = value
        elif limits is not None or score.max() > threshold:
            full = _interpolate(score, operators, None if limits is None else limits[channel])
            np.copyto(out, value, where=full > threshold, casting="unsafe")

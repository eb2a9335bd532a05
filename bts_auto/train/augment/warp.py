"""Reading image and mask at the positions of a warped grid, in one pass that shares all index arithmetic.

An image is interpolated linearly. A mask gets, at each position, the label with the largest linear weight among the
2^d voxels around it; that is the arg-max of the interpolated one-hot maps, computed for all labels at once. Where these
voxels agree (nearly everywhere) the label is theirs and nothing is weighed, so that the cost does not grow with labels.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import grid_sample, pad

# Positions handled at a time on a CPU: the index and weight arrays of a slab then stay in the second-level cache.
_SLAB = 1 << 17
# Two labels count as tied when their weights differ by less than this; the nearest voxel's label then wins. It absorbs
# rounding of positions (about 1e-5 voxels), which would decide exact ties by chance.
_TIE = 1e-4
# Positions beyond the source are moved to this distance (in voxels) from its last voxel.
_INSIDE = 1e-3

# Positions for rows start..stop of the patch's first axis: one tensor of the slab's shape (or broadcastable to it) for
# each axis of the source, in voxels of the source.
Positions = Callable[[int, int], list[torch.Tensor]]


@dataclass(frozen=True)
class _Cells:
    """For each position of a slab: flat index of the lower corner of its cell, and its place in the cell (0..1)."""

    lower: torch.Tensor
    fractions: list[torch.Tensor]
    offsets: list[int]


def _strides(size: tuple[int, ...]) -> list[int]:
    strides = [1]
    for n in reversed(size[1:]):
        strides.insert(0, strides[0] * n)
    return strides


def _corner_offsets(size: tuple[int, ...]) -> list[int]:
    """Distance of each corner of a cell from its lower one in flat indices; the last axis varies fastest."""
    return [sum(steps) for steps in itertools.product(*((0, stride) for stride in _strides(size)))]


def _cells(positions: list[torch.Tensor], size: tuple[int, ...], shape: tuple[int, ...]) -> _Cells:
    lower, fractions = None, []
    for position, n, stride in zip(positions, size, _strides(size), strict=True):
        # Positions beyond the source fall into its outermost cell: the reader has put a margin of padding there.
        position = position.expand(shape).clamp(0, n - 1 - _INSIDE)
        index = position.floor()
        fractions.append((position - index).reshape(-1))
        index = index.to(torch.int32).mul_(stride)
        lower = index if lower is None else lower.add_(index)
    assert lower is not None
    return _Cells(lower.reshape(-1), fractions, _corner_offsets(size))


def _slabs(shape: tuple[int, ...], device: torch.device) -> Iterator[tuple[int, int]]:
    voxels = torch.Size(shape[1:]).numel()
    rows = shape[0] if device.type != "cpu" else max(1, _SLAB // max(1, voxels))
    for start in range(0, shape[0], rows):
        yield start, min(start + rows, shape[0])


def _linear(flat: torch.Tensor, corners: list[torch.Tensor], fractions: list[torch.Tensor]) -> torch.Tensor:
    values = [flat.index_select(0, corner) for corner in corners]
    for fraction in reversed(fractions):
        values = [low.lerp_(high, fraction) for low, high in zip(values[::2], values[1::2], strict=True)]
    return values[0]


def _uniform(mask: torch.Tensor) -> torch.Tensor:
    """Whether all corners of the cell above each voxel have one label; (\\*s) bool, False along the upper borders."""
    same = torch.ones_like(mask, dtype=torch.bool)
    for axis in range(mask.ndim):
        n = mask.shape[axis]
        equal = mask.narrow(axis, 0, n - 1) == mask.narrow(axis, 1, n - 1)
        # A cell is uniform along an axis when its lower edge is, and its upper neighbours' cells are along the others.
        along = same.narrow(axis, 0, n - 1) & same.narrow(axis, 1, n - 1) & equal
        same.narrow(axis, 0, n - 1).copy_(along)
        same.narrow(axis, n - 1, 1).fill_(False)
    return same


def _heaviest(labels: torch.Tensor, fractions: list[torch.Tensor]) -> torch.Tensor:
    """The label with the largest summed weight.

    Parameters
    ----------
    labels : Tensor, shape (2^d, n)
        Labels at the corners of each cell, the last axis varying fastest.
    fractions : list of Tensor, shape (n)
        Place in the cell along each axis.
    """
    weights = torch.ones_like(fractions[0])[None]
    for fraction in fractions:
        weights = torch.stack((weights * (1 - fraction), weights * fraction), 1).flatten(0, 1)
    nearest = torch.zeros_like(labels[0], dtype=torch.long)
    for fraction in fractions:
        nearest = nearest * 2 + (fraction > 0.5)
    weights.scatter_add_(0, nearest[None], torch.full_like(weights[:1], _TIE))
    scores = weights.clone()
    for one, other in itertools.combinations(range(len(labels)), 2):
        equal = (labels[one] == labels[other]).to(weights.dtype)
        scores[one].addcmul_(weights[other], equal)
        scores[other].addcmul_(weights[one], equal)
    return labels.gather(0, scores.argmax(0, keepdim=True))[0]


def _labels(flat: torch.Tensor, uniform: torch.Tensor, cells: _Cells) -> torch.Tensor:
    out = flat.index_select(0, cells.lower)
    mixed = uniform.index_select(0, cells.lower).logical_not_().nonzero()[:, 0]
    if len(mixed):
        lower = cells.lower.index_select(0, mixed)
        around = torch.stack([flat.index_select(0, lower + offset) for offset in cells.offsets])
        out[mixed] = _heaviest(around, [fraction.index_select(0, mixed) for fraction in cells.fractions])
    return out


def warp(
    image: torch.Tensor, mask: torch.Tensor, positions: Positions, shape: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Read image and mask at given positions.

    Parameters
    ----------
    image : Tensor of float32, shape (c, \\*s)
        d spatial axes, each at least 2 voxels long; positions beyond them take the outermost voxels' values.
    mask : Tensor of an integer type, shape (m, \\*s)
        Label maps on the same grid.
    positions : callable
        For rows start..stop of the output's first axis, the source position along each axis, in voxels.
    shape : tuple of int
        Spatial shape of the output, d axes.

    Returns
    -------
    image, mask : Tensor, shapes (c, \\*shape) and (m, \\*shape)
    """
    size = tuple(image.shape[1:])
    planes = [plane.reshape(-1) for plane in image]
    label_planes = [(plane.reshape(-1), _uniform(plane).view(-1)) for plane in mask]
    warped = image.new_empty((len(image), *shape))
    warped_mask = mask.new_empty((len(mask), *shape))
    for start, stop in _slabs(shape, image.device):
        slab = (stop - start, *shape[1:])
        cells = _cells(positions(start, stop), size, slab)
        corners = [cells.lower + offset for offset in cells.offsets]
        for channel, flat in enumerate(planes):
            warped[channel, start:stop] = _linear(flat, corners, cells.fractions).view(slab)
        for channel, (flat, uniform) in enumerate(label_planes):
            warped_mask[channel, start:stop] = _labels(flat, uniform, cells).view(slab)
    return warped, warped_mask


def resample(images: Sequence[torch.Tensor], positions: Sequence[Positions], shape: tuple[int, ...]) -> torch.Tensor:
    """Read several images, each at its own positions, linearly and at once: what a GPU does best.

    Parameters
    ----------
    images : sequence of Tensor of float32, shape (c, \\*s)
        Of any sizes; positions beyond an image take its outermost voxels' values.
    positions : sequence of callable
        See :func:`warp`.
    shape : tuple of int
        Spatial shape of the output.

    Returns
    -------
    Tensor, shape (n, c, \\*shape)
    """
    dims = len(shape)
    largest = [max(image.shape[1 + axis] for image in images) for axis in range(dims)]
    grids, padded = [], []
    for image, at in zip(images, positions, strict=True):
        size = image.shape[1:]
        widths = [width for axis in reversed(range(dims)) for width in (0, largest[axis] - size[axis])]
        padded.append(pad(image, widths))
        # Clamped to its own size, no position sees the padding.
        along = [
            position.expand(shape).clamp(0, size[axis] - 1 - _INSIDE) * (2 / (largest[axis] - 1)) - 1
            for axis, position in enumerate(at(0, shape[0]))
        ]
        grids.append(torch.stack(along[::-1], -1))
    return grid_sample(
        torch.stack(padded), torch.stack(grids), mode="bilinear", padding_mode="border", align_corners=True
    )

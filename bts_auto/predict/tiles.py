"""Which tiles visit an image, and how much each voxel of a tile counts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bts_auto.errors import PlanError
from bts_auto.plan.schema import SegmentationConfiguration

# The Gaussian of nnU-Net v2's `compute_gaussian`: standard deviation as a share of the tile, and value at the centre.
SIGMA_SHARE = 1 / 8
PEAK = 10.0
# Where SciPy cuts the Gaussian off, in standard deviations.
_TRUNCATE = 4.0

Tile = str | int | Sequence[int]


def axis_positions(size: int, tile: int, step_size: float) -> list[int]:
    """Where tiles start along one axis: evenly spread from end to end, at most ``step_size * tile`` apart.

    Parameters
    ----------
    size, tile : int
        Voxels of the image and of a tile; ``size >= tile``.
    step_size : float
        In (0, 1]; tiles are at least a voxel apart however small it is.

    References
    ----------
    F. Isensee et al., "nnU-Net", Nature Methods 18, 2021; the rule of nnU-Net v2's sliding window.
    """
    steps = math.ceil((size - tile) / max(1.0, tile * step_size)) + 1
    if steps == 1:
        return [0]
    distance = (size - tile) / (steps - 1)
    return [int(np.round(distance * step)) for step in range(steps)]


def axis_weights(tile: int) -> np.ndarray:
    """The Gaussian along one axis of a tile, 1 at its centre, shape (tile,), float64.

    What `scipy.ndimage.gaussian_filter1d` makes of an impulse, written out: importing it takes as long as a tile.
    """
    sigma = tile * SIGMA_SHARE
    distance = np.arange(tile) - tile // 2
    weights = np.exp(-0.5 / sigma**2 * distance**2)
    return np.where(np.abs(distance) <= int(_TRUNCATE * sigma + 0.5), weights, 0.0)


def gaussian_weights(tile: Sequence[int]) -> np.ndarray:
    """How much each voxel of a tile counts: a Gaussian, `PEAK` at the centre; shape `tile`, float32."""
    weights = np.full((), PEAK)
    for axis in tile:
        weights = np.multiply.outer(weights, axis_weights(axis))
    return weights.astype(np.float32)


def divisors(configuration: SegmentationConfiguration) -> tuple[int, ...]:
    """What each axis of the network's input must be a multiple of: the product of its strides."""
    return tuple(math.prod(stage[axis] for stage in configuration.strides) for axis in range(configuration.dims))


def smallest_tile(configuration: SegmentationConfiguration) -> tuple[int, ...]:
    """The smallest input of a configuration's network: two voxels are left at its bottom, which instance norm needs."""
    strides = divisors(configuration)
    return tuple(min(2 * by, patch) for by, patch in zip(strides, configuration.patch_size, strict=True))


def tile_size(tile: Tile, size: Sequence[int], patch: Sequence[int], divisors: Sequence[int]) -> tuple[int, ...]:
    """The tile in voxels.

    Parameters
    ----------
    tile : str, int or sequence of int
        ``"patch"``: the training patch; ``"whole"``: the whole image in one pass; a number for all axes or one for
        each: this, rounded up to `divisors`, and no larger than the whole image.
    size, patch, divisors : sequence of int
        Of the image, of the training patch, and of the network's strides, along the network's axes.

    Raises
    ------
    PlanError
        For a word that is neither, or as many numbers as there are axes not.
    """
    if tile == "patch":
        return tuple(patch)
    whole = tuple(_round_up(axis, by) for axis, by in zip(size, divisors, strict=True))
    if tile == "whole":
        return whole
    wanted = (tile,) * len(whole) if isinstance(tile, int) else tile
    if isinstance(wanted, str) or len(wanted) != len(whole) or min(wanted) < 1:
        raise PlanError(
            f"cannot use '{tile}' as a tile", mend=f"give 'patch', 'whole' or 1 or {len(whole)} numbers of voxels"
        )
    return tuple(min(_round_up(axis, by), most) for axis, by, most in zip(wanted, divisors, whole, strict=True))


def _round_up(value: int, by: int) -> int:
    return -(-int(value) // by) * by


@dataclass(frozen=True)
class Grid:
    """All tiles of an image.

    Tiles and images have three axes (z, y, x); a network with two takes tiles that are one slice thick.

    Attributes
    ----------
    tile : tuple of int
        Voxels of a tile.
    padding : tuple of pairs
        Voxels to add below and above each axis, so that the image is no smaller than a tile.
    positions : tuple of list of int
        Along each axis, where tiles start in the padded image.
    """

    tile: tuple[int, int, int]
    padding: tuple[tuple[int, int], ...]
    positions: tuple[list[int], ...]

    @classmethod
    def over(cls, size: Sequence[int], tile: Sequence[int], step_size: float) -> Grid:
        """The grid that covers an image of `size` with `tile`; a two-dimensional tile visits every slice."""
        missing = len(size) - len(tile)
        full = (1,) * missing + tuple(tile)
        distances = (1.0,) * missing + (step_size,) * len(tile)
        # An odd voxel of padding goes above, as in nnU-Net.
        padding = tuple((max(0, t - n) // 2, -(-max(0, t - n) // 2)) for n, t in zip(size, full, strict=True))
        padded = [n + below + above for n, (below, above) in zip(size, padding, strict=True)]
        positions = tuple(axis_positions(*axis) for axis in zip(padded, full, distances, strict=True))
        return cls(full, padding, positions)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return math.prod(len(along) for along in self.positions)

    def __iter__(self) -> Iterator[tuple[slice, ...]]:
        """The region of each tile in the padded image."""
        for start in itertools.product(*self.positions):
            yield tuple(slice(at, at + extent) for at, extent in zip(start, self.tile, strict=True))

    @property
    def inside(self) -> tuple[slice, ...]:
        """The region of the image in the padded image."""
        ends = [along[-1] + extent for along, extent in zip(self.positions, self.tile, strict=True)]
        return tuple(slice(below, end - above) for (below, above), end in zip(self.padding, ends, strict=True))

    def axis_totals(self) -> list[np.ndarray]:
        """Along each axis the sum of the weights of all tiles; their outer product times `PEAK` is the sum in space."""
        totals = []
        for along, extent in zip(self.positions, self.tile, strict=True):
            total, weights = np.zeros(along[-1] + extent), axis_weights(extent)
            for start in along:
                total[start : start + extent] += weights
            totals.append(total)
        return totals

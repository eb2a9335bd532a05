"""A scan in memory: its array, its channels' names and its place in space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

# Two grids are the same when origin and spacing agree to this many mm, and directions to this much per cosine. Scanner
# software and converters round headers to about this.
_SAME_MM = 1e-3
_SAME_COSINE = 1e-3

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Geometry:
    """The grid of an image.

    Attributes
    ----------
    size : tuple of int
        Voxels along (z, y, x).
    spacing : tuple of float
        Distance between voxel centres along (z, y, x), in mm.
    origin : tuple of float
        Centre of the first voxel in patient coordinates (x, y, z), LPS, in mm - ITK's convention.
    direction : tuple of float
        ITK's 3x3 direction matrix in row-major order; its columns are the unit vectors of the image axes x, y, z.
    planar : bool
        The file is 2D: z was added with one voxel, and is left out again on writing.
    affine : tuple of float or None
        The upper three rows of a NIfTI header's own voxel-to-world matrix (RAS, row-major) where its axes are not at
        right angles, so that `direction` can only be the nearest matrix whose axes are. Written back unchanged.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = IDENTITY
    planar: bool = False
    affine: tuple[float, ...] | None = None

    def differences(self, other: Geometry) -> list[str]:
        """What differs between two grids, in words with both values; an empty list when they are the same."""
        found = []
        if self.size != other.size:
            found.append(f"size {self.size} against {other.size}")
        for name, tolerance in (("spacing", _SAME_MM), ("origin", _SAME_MM), ("direction", _SAME_COSINE)):
            mine, theirs = getattr(self, name), getattr(other, name)
            if not np.allclose(mine, theirs, rtol=0, atol=tolerance):
                found.append(f"{name} {_short(mine)} against {_short(theirs)}")
        return found

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Geometry:
        """The inverse of :meth:`to_json`."""
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**fields)


def _short(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"


@dataclass(frozen=True)
class Volume:
    """One case's channels on one grid.

    Attributes
    ----------
    array : ndarray of float32, shape (c, z, y, x)
        A 2D image has z = 1.
    geometry : Geometry
        Where the voxels lie.
    channels : tuple of str
        A name for each channel, as in dataset.json.
    """

    array: np.ndarray
    geometry: Geometry
    channels: tuple[str, ...]

    def __post_init__(self) -> None:
        expected = (len(self.channels), *self.geometry.size)
        if self.array.shape != expected:
            raise ValueError(f"array of shape {self.array.shape} where channels and geometry say {expected}")

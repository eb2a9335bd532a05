"""Surfaces of masks as points, and the distances between two of them.

Two notions of a surface are in use, and their distances differ:

- *border voxels*: the foreground voxels that have a background voxel among their face neighbours (MONAI, medpy);
- *surface elements*: the corners between 2x2x2 voxels (2x2 in the plane) of which some belong to the mask and some do
  not, each weighted by the area of the surface in it (DeepMind's ``surface-distance``, which BraTS uses).

In both, the outside of the volume counts as background.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass

import numpy as np

# Above this many points in both surfaces together, a distance transform of the whole box is faster than a search tree.
_MANY_POINTS = 3_000_000


@dataclass(frozen=True)
class Surface:
    """Points of a surface.

    Attributes
    ----------
    points : ndarray of int32, shape (n, d)
        Grid positions.
    weights : ndarray of float64, shape (n,), or None
        Area in mm2 (length in mm in the plane) of the surface at each point; None: all points count alike.
    """

    points: np.ndarray
    weights: np.ndarray | None = None


def border_voxels(mask: np.ndarray) -> Surface:
    """The border voxels of a boolean `mask` of any dimension."""
    padded = np.pad(mask, 1)
    inner = (slice(1, -1),) * mask.ndim
    kept = padded[inner].copy()
    for axis in range(mask.ndim):
        for neighbour in (slice(0, -2), slice(2, None)):
            kept &= padded[(*inner[:axis], neighbour, *inner[axis + 1 :])]
    return Surface(_positions(padded[inner] ^ kept))


def surface_elements(mask: np.ndarray, spacing: tuple[float, ...]) -> Surface:
    """The surface elements of a boolean `mask` of shape (y, x) or (z, y, x), with their areas.

    Point i lies half a voxel before voxel i along every axis, so the points of two masks of one grid can be compared.
    """
    padded = np.pad(mask, 1).view(np.uint8)
    size = tuple(n + 1 for n in mask.shape)
    codes = np.zeros(size, np.uint8)
    corners = tuple(itertools.product((0, 1), repeat=mask.ndim))
    for bit, corner in enumerate(corners):
        codes |= padded[tuple(slice(c, c + n) for c, n in zip(corner, size, strict=True))] << np.uint8(bit)
    points = _positions((codes != 0) & (codes != (1 << len(corners)) - 1))
    area = _element_areas(tuple(spacing))
    return Surface(points, area[codes[tuple(points.T)]])


def _positions(mask: np.ndarray) -> np.ndarray:
    return np.stack(np.unravel_index(np.flatnonzero(mask), mask.shape), axis=1).astype(np.int32)


def distances(start: Surface, target: Surface, spacing: tuple[float, ...]) -> np.ndarray:
    """Distance in mm from each point of `start` to the nearest point of `target`; float64, shape (n,)."""
    if len(start.points) + len(target.points) > _MANY_POINTS:
        return _distances_by_transform(start, target, spacing)
    from scipy.spatial import cKDTree

    # Plain splitting at the middle: building and searching such a tree is faster for points of a regular grid.
    tree = cKDTree(target.points * np.asarray(spacing), balanced_tree=False, compact_nodes=False)
    return tree.query(start.points * np.asarray(spacing))[0]


def _distances_by_transform(start: Surface, target: Surface, spacing: tuple[float, ...]) -> np.ndarray:
    """The same as :func:`distances` for very many points: one Euclidean distance transform of the box."""
    shape = tuple(np.maximum(start.points.max(axis=0), target.points.max(axis=0)) + 1)
    away = np.ones(shape, bool)
    away[tuple(target.points.T)] = False
    try:
        import edt
    except ImportError:
        from scipy.ndimage import distance_transform_edt

        field = distance_transform_edt(away, sampling=spacing)
    else:
        field = edt.edt(away, anisotropy=spacing, parallel=1)
    return field[tuple(start.points.T)].astype(np.float64)


@functools.lru_cache(maxsize=32)
def _element_areas(spacing: tuple[float, ...]) -> np.ndarray:
    """Area of the surface in a 2x2x2 (or length in a 2x2) neighbourhood, for each pattern of its corners, as bits.

    A triangle of the surface is kept as its area vector, whose components scale with products of two spacings.
    """
    if len(spacing) == 2:
        return np.array([_contour_length(code, spacing) for code in range(16)])
    sides = np.asarray(spacing)
    scale = sides.prod() / sides
    return np.array([np.linalg.norm(vectors * scale, axis=1).sum() for vectors in _triangles()])


def _contour_length(code: int, spacing: tuple[float, ...]) -> float:
    """Length of the contour in a 2x2 square whose corners' bits are (0, 0), (0, 1), (1, 0), (1, 1)."""
    diagonal = math.hypot(*spacing) / 2  # joins the middles of two neighbouring sides
    if code in (0b0110, 0b1001):
        return 2 * diagonal
    if code in (0b0011, 0b1100):
        return spacing[1]
    if code in (0b0101, 0b1010):
        return spacing[0]
    return 0.0 if code in (0, 0b1111) else diagonal


@functools.cache
def _triangles() -> tuple[np.ndarray, ...]:
    """For each of 256 patterns the area vectors, shape (n, 3), of the triangles that separate its corners.

    Marching cubes (Lorensen and Cline, SIGGRAPH 1987). An ambiguous pattern is decided for the fewer corners, which are
    then separated: a pattern of more than four has the surface of its complement, as in ``surface-distance``.
    """
    from skimage.measure import marching_cubes

    found = []
    for code in range(256):
        bits = code if code.bit_count() <= 4 else 255 - code
        if bits == 0:
            found.append(np.zeros((1, 3)))
            continue
        cube = np.array([bits >> bit & 1 for bit in range(8)], np.float32).reshape(2, 2, 2)
        vertices, faces, _, _ = marching_cubes(cube, 0.5, method="lorensen")
        first, second, third = np.moveaxis(vertices[faces].astype(np.float64), 1, 0)
        found.append(np.cross(second - first, third - first) / 2)
    return tuple(found)

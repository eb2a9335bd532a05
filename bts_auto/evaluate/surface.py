"""Surfaces of masks as points, and the distances between two of them.

Two notions of a surface are in use, and their distances differ:

- *border voxels*: the foreground voxels that have a background voxel among their face neighbours (MONAI, medpy);
- *surface elements*: the corners between 2x2x2 voxels (2x2 in the plane) of which some belong to the mask and some do
  not, each weighted by the area of the surface in it (DeepMind's ``surface-distance``, which BraTS uses).

In both, the outside of the volume counts as background.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from bts_auto import machine

# Cost of a distance transform per voxel, and of searching the tree per point: fixed, and per voxel of distance.
# Measured in microseconds; only their ratios matter.
_TRANSFORM_COST = 0.04
_SEARCH_COST = (0.8, 0.2)
_SAMPLE = 200
_LEAF = 32
_THREADS = 4
_WORTH_THREADS = 4_000_000


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
    codes = np.pad(mask, 1).view(np.uint8)
    # Axis by axis, the last one first: two neighbours' patterns side by side make the pattern of twice as many corners.
    for axis in reversed(range(mask.ndim)):
        before = codes[(slice(None),) * axis + (slice(0, -1),)]
        behind = codes[(slice(None),) * axis + (slice(1, None),)]
        codes = before | behind << np.uint8(1 << (mask.ndim - 1 - axis))
    points = _positions((codes != 0) & (codes != (1 << (1 << mask.ndim)) - 1))
    area = _element_areas(tuple(spacing))
    return Surface(points, area[codes[tuple(points.T)]])


def _positions(mask: np.ndarray) -> np.ndarray:
    return np.stack(np.unravel_index(np.flatnonzero(mask), mask.shape), axis=1).astype(np.int32)


def distances(start: Surface, target: Surface, spacing: tuple[float, ...]) -> np.ndarray:
    """Distance in mm from each point of `start` to the nearest point of `target`; float64, shape (n,).

    Both ways of finding it are exact; the one that is expected to be faster is taken.
    """
    from scipy.spatial import cKDTree

    scale = np.asarray(spacing)
    # Splitting at the middle: building and searching such a tree is faster for points of a regular grid.
    tree = cKDTree(target.points * scale, leafsize=_LEAF, balanced_tree=False, compact_nodes=False)
    if len(set(spacing)) == 1 and _tree_is_slow(tree, start, target, spacing[0]):
        found = _distances_by_transform(start, target, spacing[0])
        if found is not None:
            return found
    return tree.query(start.points * scale)[0]


def _tree_is_slow(tree: Any, start: Surface, target: Surface, side: float) -> bool:
    """Whether a distance transform of the box would cost less than searching the tree for every point.

    The farther a point lies from the surface, the more of the tree has to be searched.
    """
    box = np.maximum(start.points.max(axis=0), target.points.max(axis=0)) + 1
    transform = _TRANSFORM_COST * float(np.prod(box, dtype=np.float64))
    if len(start.points) * _SEARCH_COST[0] > transform:
        return True
    sample = start.points[:: max(1, len(start.points) // _SAMPLE)]
    steps = float(tree.query(sample * side)[0].mean()) / side
    return len(start.points) * (_SEARCH_COST[0] + _SEARCH_COST[1] * steps) > transform


def _distances_by_transform(start: Surface, target: Surface, side: float) -> np.ndarray | None:
    """The same for cubic voxels by one Euclidean distance transform; None where the package for it is not installed.

    Squared distances in voxels are whole numbers, which single precision holds exactly up to 2^24.
    """
    try:
        import edt
    except ImportError:
        return None
    shape = np.maximum(start.points.max(axis=0), target.points.max(axis=0)) + 1
    if float((shape.astype(np.float64) ** 2).sum()) >= 2**24:
        return None
    away = np.ones(tuple(shape), bool)
    away[tuple(target.points.T)] = False
    threads = min(machine.cores(), _THREADS) if away.size > _WORTH_THREADS else 1
    squared = edt.edtsq(away, parallel=threads)[tuple(start.points.T)]
    return np.sqrt(squared.astype(np.float64)) * side


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

"""A prediction and its reference for one region, cropped to what matters, with everything that metrics share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from bts_auto.evaluate.surface import Surface, border_voxels, distances, surface_elements

T = TypeVar("T")


class Pair:
    """Two masks of one region on one grid.

    Counts and surfaces are worked out on first use, in the smallest box that holds both masks, and kept.

    Parameters
    ----------
    prediction, reference : ndarray, shape (z, y, x)
        Anything that is true in the region.
    spacing : tuple of float
        Voxel distances (z, y, x) in mm.
    voxels : int, optional
        Number of voxels that count, for scores that need the background; default: all.
    planar : bool, optional
        Whether this is one slice of shape (1, y, x) that is to be scored as an image in the plane; default: when z = 1.
    levels : callable, optional
        Gives both as maps of levels 0 to n, and n, for scores of regions in which integers count raters; default: the
        masks themselves, one level.
    judged : callable, optional
        Gives the region's probability and truth in every voxel that counts, flat, for scores of probabilities.
    """

    def __init__(
        self,
        prediction: np.ndarray,
        reference: np.ndarray,
        spacing: tuple[float, ...],
        *,
        voxels: int | None = None,
        planar: bool | None = None,
        levels: Callable[[], tuple[np.ndarray, np.ndarray, int]] | None = None,
        judged: Callable[[], tuple[np.ndarray, np.ndarray]] | None = None,
    ) -> None:
        if prediction.shape != reference.shape:
            raise ValueError(f"masks of shapes {prediction.shape} and {reference.shape}")
        if not len(spacing) == prediction.ndim == 3:
            raise ValueError(f"{len(spacing)} spacings and {prediction.ndim} dimensions where three are needed")
        self.voxels = prediction.size if voxels is None else voxels
        self.voxel_mm3 = float(np.prod(spacing))
        mine: np.ndarray = np.asarray(prediction, bool)
        theirs: np.ndarray = np.asarray(reference, bool)
        box = union_box(mine, theirs)
        self.prediction, self.reference = mine[box], theirs[box]
        self.spacing3 = self.spacing = tuple(float(s) for s in spacing)
        self.planar = prediction.ndim == 3 and prediction.shape[0] == 1 if planar is None else planar
        self._kept: dict[Any, Any] = {}
        self._levels = levels
        self.judged = judged
        if self.planar:
            plane = self.prediction.shape[1:]
            self.prediction, self.reference = self.prediction.reshape(plane), self.reference.reshape(plane)
            self.spacing = self.spacing[1:]

    def once(self, key: Any, work: Callable[[], T]) -> T:
        """What `work` returns, worked out the first time that `key` is asked for; several scores share it."""
        if key not in self._kept:
            self._kept[key] = work()
        return self._kept[key]

    @functools.cached_property
    def true_positives(self) -> int:
        """Voxels in both masks."""
        return int(np.count_nonzero(self.prediction & self.reference))

    @functools.cached_property
    def n_prediction(self) -> int:
        """Voxels of the prediction."""
        return int(np.count_nonzero(self.prediction))

    @functools.cached_property
    def n_reference(self) -> int:
        """Voxels of the reference."""
        return int(np.count_nonzero(self.reference))

    @property
    def both_empty(self) -> bool:
        """Neither mask has a voxel."""
        return self.n_prediction == 0 and self.n_reference == 0

    @property
    def any_empty(self) -> bool:
        """At least one mask has no voxel."""
        return self.n_prediction == 0 or self.n_reference == 0

    @functools.cached_property
    def levels(self) -> tuple[np.ndarray, np.ndarray, int]:
        """Prediction and reference as maps of levels, 0 to the highest level, and that."""
        return (self.prediction, self.reference, 1) if self._levels is None else self._levels()

    @functools.cached_property
    def border_distances(self) -> tuple[np.ndarray, np.ndarray]:
        """Distances in mm between border voxels: prediction to reference, and reference to prediction."""
        mine, theirs = border_voxels(self.prediction), border_voxels(self.reference)
        return distances(mine, theirs, self.spacing), distances(theirs, mine, self.spacing)

    @functools.cached_property
    def element_distances(self) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """Distances in mm between surface elements, each with the elements' areas, sorted by distance.

        Prediction to reference, and reference to prediction.
        """
        mine, theirs = (surface_elements(mask, self.spacing) for mask in (self.prediction, self.reference))
        return _weighted(mine, theirs, self.spacing), _weighted(theirs, mine, self.spacing)


def _weighted(start: Surface, target: Surface, spacing: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    found = distances(start, target, spacing)
    assert start.weights is not None
    # Equal distances are ordered by area, so that the result does not depend on where the points lie.
    order = np.lexsort((start.weights, found))
    return found[order], start.weights[order]


def union_box(*masks: np.ndarray) -> tuple[slice, ...]:
    """The smallest box that holds all voxels of boolean `masks` of one shape; empty slices when there are none."""
    shape = masks[0].shape
    box = []
    for axis in range(len(shape)):
        others = tuple(a for a in range(len(shape)) if a != axis)
        line = np.zeros(shape[axis], bool)
        for mask in masks:
            line |= mask.any(axis=others)
        found = np.flatnonzero(line)
        box.append(slice(int(found[0]), int(found[-1]) + 1) if found.size else slice(0, 0))
    return tuple(box)

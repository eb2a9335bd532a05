"""When full resolution shows too little context: a coarser configuration that precedes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

# A patch that covers less than this share of the median case calls for a coarser configuration
# (ExperimentPlanner.lowres_creation_threshold).
MIN_COVERAGE = 0.25
# The spacing grows by this factor until the patch covers enough; axes finer than half of the coarsest grow first
# (ExperimentPlanner.plan_experiment).
_GROWTH = 1.03
_FINER = 2
# Dropped when it has not at least this many times fewer voxels than full resolution (same function).
_MIN_GAIN = 2


@dataclass(frozen=True)
class Grid:
    """A grid that may be planned for: spacing in mm, median size, and voxels of the median case before rounding."""

    spacing: tuple[float, ...]
    median: tuple[float, ...]
    voxels: float


Sized = TypeVar("Sized")


def _coarser(spacing: np.ndarray, full_spacing: np.ndarray, full_median: np.ndarray) -> np.ndarray:
    """One step of growth. An axis that would be left without a voxel stays (nnU-Net v2.8.1 fails there)."""
    grown = spacing * _GROWTH
    free = np.round(full_spacing / grown * full_median) >= 1
    finer = free & (spacing.max() / spacing > _FINER)
    return np.where(finer if finer.any() else free, grown, spacing)


def plan_lowres(
    spacing: Sequence[float],
    median: Sequence[float],
    patch_size: Sequence[int],
    plan: Callable[[Grid], tuple[Sized, Sequence[int]]],
) -> tuple[Grid, Sized] | None:
    """The coarser configuration, or None where none is needed or it would gain too little.

    Parameters
    ----------
    spacing, median, patch_size
        Of full resolution.
    plan : callable
        Sizes a configuration for a grid; returns it and its patch.
    """
    full_spacing, full_median = np.asarray(spacing, dtype=float), np.asarray(median, dtype=float)
    now, full_voxels = full_spacing, float(np.prod(full_median))
    voxels, found = full_voxels, None
    while math.prod(patch_size) / voxels < MIN_COVERAGE:
        coarser = _coarser(now, full_spacing, full_median)
        if np.array_equal(coarser, now):
            break
        now = coarser
        exact = full_spacing / now * full_median
        voxels = float(np.prod(exact))
        grid = Grid(tuple(now.tolist()), tuple(float(round(edge)) for edge in exact.tolist()), voxels)
        sized, patch_size = plan(grid)
        found = (grid, sized)
    return found if found is not None and full_voxels / voxels >= _MIN_GAIN else None

"""A threshold for each region, fitted on cross-validated probabilities: every combination on a grid, exactly."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from bts_auto.data.labels import Labels
from bts_auto.errors import PlanError
from bts_auto.plan.schema import Component

# Thresholds that are tried: 1/20 to 19/20. Finer steps are below what a fold of cases can tell apart.
_LEVELS = np.arange(1, 20) / 20
# Combinations grow with the power of regions.
MOST_REGIONS = 4


class GridSearch:
    """Thresholds by the mean Dice of each case for every combination on the grid.

    Painting regions in order makes the predicted label of a voxel a function of which thresholds its probabilities
    exceed. Counting voxels by the steps of the grid between which their probabilities lie, and by the reference, is
    therefore enough to score every combination; no mask is made.
    """

    def __init__(self, labels: Labels, regions: Mapping[str, tuple[int, ...]], options: None = None) -> None:
        """Search thresholds for networks whose outputs are the regions of `labels`, scored on `regions`.

        Raises
        ------
        PlanError
            For plain labels, or more regions than a table can hold.
        """
        if not labels.has_regions or len(labels.outputs) > MOST_REGIONS:
            what = f"{len(labels.outputs)} regions" if labels.has_regions else "labels that exclude each other"
            raise PlanError(f"no grid of thresholds for {what}", mend="search by 'draws'")
        self._labels, self._regions = labels, regions

    @property
    def component(self) -> Component:
        """How it was searched, as it stands in the rule that comes of it."""
        return Component(name="grid")

    def of(self, probabilities: np.ndarray, reference: np.ndarray) -> np.ndarray:
        """Mean Dice over the scored regions, shape (19,) * k; a region that is empty in both counts 1.

        Parameters
        ----------
        probabilities : ndarray, shape (k, z, y, x)
            In the order of ``labels.outputs``.
        reference : ndarray of int, shape (z, y, x)
            Voxels with the ignore label do not count.
        """
        # Elsewhere nothing is true and nothing is predicted, whatever the thresholds.
        counted = (reference != 0) | (probabilities > _LEVELS[0]).any(axis=0)
        if self._labels.ignore is not None:
            counted &= reference != self._labels.ignore
        # In single precision, as the rule compares: many 8-bit probabilities lie exactly on a level.
        levels = _LEVELS.astype(np.float32)
        steps = np.stack([np.searchsorted(levels, channel[counted], side="left") for channel in probabilities])
        reference = reference[counted]
        dice = []
        for members in self._regions.values():
            truth = np.isin(reference, members)
            inside, outside = self._predicted(steps[:, truth], members), self._predicted(steps[:, ~truth], members)
            size = inside + outside + np.count_nonzero(truth)
            dice.append(np.where(size > 0, 2 * inside / np.maximum(size, 1), 1.0))
        return np.mean(dice, axis=0).astype(np.float32)

    def best(self, tables: Mapping[int, Sequence[np.ndarray]]) -> dict[str, float]:
        """The median over folds of the thresholds with the best mean Dice on a fold's cases.

        Of equally good combinations the one nearest to 0.5 counts.

        Parameters
        ----------
        tables : mapping of int to sequence of ndarray
            For each fold what :meth:`of` gave for its cases.

        Returns
        -------
        dict
            Region -> threshold.
        """
        chosen = []
        for own in tables.values():
            total = sum(own[1:], start=own[0])
            grid = np.stack(np.meshgrid(*[_LEVELS] * total.ndim, indexing="ij"), axis=-1)
            far = np.abs(grid - 0.5).sum(axis=-1)
            best = np.where(total >= total.max() - 1e-5, far, np.inf)
            chosen.append(grid[np.unravel_index(np.argmin(best), best.shape)])
        return median_of_folds(np.array(chosen), self._labels.outputs)

    def _predicted(self, steps: np.ndarray, members: tuple[int, ...]) -> np.ndarray:
        """How many of these voxels are painted with one of `members`, for every combination of thresholds."""
        k, size = len(steps), len(_LEVELS) + 1
        flat = np.ravel_multi_index(tuple(steps), (size,) * k)
        counts = np.bincount(flat, minlength=size**k).reshape((size,) * k)
        total = np.zeros((len(_LEVELS),) * k, np.int64)
        for above in itertools.product((False, True), repeat=k):
            painted = [value for value, over in zip(self._labels.regions_class_order, above, strict=True) if over]
            if painted and painted[-1] in members:
                total += _cumulated(counts, above)
        return total


def _cumulated(counts: np.ndarray, above: tuple[bool, ...]) -> np.ndarray:
    """Voxels above or below each threshold along each axis; step s lies above the thresholds 0 to s - 1."""
    for axis, over in enumerate(above):
        whole = np.cumsum(counts, axis=axis)
        below = np.delete(whole, -1, axis=axis)
        counts = np.take(whole, [-1], axis=axis) - below if over else below
    return counts


def median_of_folds(chosen: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Name -> the median over folds of `chosen`, shape (folds, names).

    References
    ----------
    Jabareen and Lukassen, Segmenting Brain Tumors in Multi-modal MRI Scans Using a 3D SegNet Architecture, BrainLes
    2021, section 2.5.
    """
    return {name: round(float(value), 4) for name, value in zip(names, np.median(chosen, axis=0), strict=True)}

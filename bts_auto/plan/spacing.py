"""The grid on which a dataset is segmented: target spacing, axis order, median size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bts_auto.data.shapes import resampled_shape

# An axis is coarse when its spacing and its size differ from the others' by more than this factor
# (nnunetv2.configuration.ANISO_THRESHOLD).
ANISOTROPY = 3
# Percentile of the cases' spacings: the median, for a coarse axis a finer one, since interpolating between few thick
# slices costs accuracy (ExperimentPlanner.determine_fullres_target_spacing).
_PERCENTILE, _PERCENTILE_COARSE = 50, 10
# Keeps a coarse axis that would become finer than another one strictly the coarsest (same function).
_MARGIN_MM = 1e-5

Triples = Sequence[Sequence[float]]


def thick_axis(spacings: Triples, shapes: Triples) -> int | None:
    """The axis whose slices are much thicker and much fewer than those of the others; None where none is.

    Parameters are those of :func:`target_spacing`.
    """
    spacing = np.percentile(np.asarray(spacings, dtype=float), _PERCENTILE, axis=0)
    size = np.percentile(np.asarray(shapes, dtype=float), _PERCENTILE, axis=0)
    coarse = int(np.argmax(spacing))
    thick = spacing[coarse] > ANISOTROPY * max(np.delete(spacing, coarse))
    return coarse if thick and size[coarse] * ANISOTROPY < min(np.delete(size, coarse)) else None


def target_spacing(spacings: Triples, shapes: Triples) -> tuple[float, float, float]:
    """The spacing that 3d_fullres works at, in mm, in the cases' axis order.

    Parameters
    ----------
    spacings : sequence of (z, y, x) in mm
        Of each case.
    shapes : sequence of (z, y, x) in voxels
        Of each case, after cropping to non-zero.
    """
    measured = np.asarray(spacings, dtype=float)
    target = np.percentile(measured, _PERCENTILE, axis=0)
    coarse = thick_axis(spacings, shapes)
    if coarse is not None:
        finer = max(np.delete(target, coarse))
        wanted = np.percentile(measured[:, coarse], _PERCENTILE_COARSE)
        target[coarse] = wanted if wanted >= finer else finer + _MARGIN_MM
    z, y, x = (float(value) for value in target)
    return z, y, x


def axis_order(target: Sequence[float]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The transpose that puts the coarsest axis first (so that 2d works in the finest plane), and its inverse."""
    coarse = int(np.argmax(target))
    forward = (coarse, *(axis for axis in range(3) if axis != coarse))
    return forward, tuple(forward.index(axis) for axis in range(3))


def transposed(values: Sequence[float], forward: Sequence[int]) -> tuple[float, ...]:
    """`values` of three axes in the plan's order."""
    return tuple(float(values[axis]) for axis in forward)


def median_shape(spacings: Triples, shapes: Triples, target: Sequence[float]) -> tuple[float, ...]:
    """Median size, in voxels, of the cases after resampling to `target`; halves occur."""
    resampled = [
        resampled_shape(tuple(int(n) for n in shape), tuple(spacing), tuple(target))
        for spacing, shape in zip(spacings, shapes, strict=True)
    ]
    return tuple(float(value) for value in np.median(resampled, axis=0))

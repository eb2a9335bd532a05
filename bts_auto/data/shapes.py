"""The shape that an array gets when it is resampled to another spacing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def resampled_shape(shape: Sequence[int], spacing: Sequence[float], new_spacing: Sequence[float]) -> tuple[int, ...]:
    """Voxels along each axis after resampling from `spacing` to `new_spacing` (mm, in the axis order of `shape`).

    nnU-Net v2's rule (``compute_new_shape``): size times old over new spacing, halves rounded to even; but at least one
    voxel, so that a slab thinner than half a new voxel can be resampled at all.

    Examples
    --------
    >>> resampled_shape((155, 240, 240), (1.0, 1.0, 1.0), (3.0, 1.0, 0.5))
    (52, 240, 480)
    >>> resampled_shape((2, 240, 240), (0.2, 1.0, 1.0), (1.0, 1.0, 1.0))
    (1, 240, 240)
    """
    if not len(shape) == len(spacing) == len(new_spacing):
        raise ValueError(f"shape, spacing and new spacing have {len(shape)}, {len(spacing)}, {len(new_spacing)} axes")
    return tuple(max(1, int(np.round(i / j * k))) for i, j, k in zip(spacing, new_spacing, shape, strict=True))

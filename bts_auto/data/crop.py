"""The part of a scan that holds anything: its non-zero mask and the box around it."""

from __future__ import annotations

import numpy as np


def nonzero_mask(array: np.ndarray) -> np.ndarray:
    """Voxels where any channel is not zero, with enclosed holes filled.

    A hole is a background component (6-connected) that does not reach the border of the array; with one slice every
    voxel is at the border, so that nothing is filled. The rule is nnU-Net's (``create_nonzero_mask``).

    Parameters
    ----------
    array : ndarray, shape (c, z, y, x)

    Returns
    -------
    ndarray of bool, shape (z, y, x)
    """
    mask = array[0] != 0
    for channel in array[1:]:
        mask |= channel != 0
    box = bounding_box(mask)
    # Padded, the background around the box is one component, and everything else that is background is a hole.
    background = ~np.pad(mask[box], 1)
    components = _label(background)
    mask[box] |= (background & (components != components[0, 0, 0]))[1:-1, 1:-1, 1:-1]
    return mask


def bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box that holds every true voxel; the whole array where there is none.

    Parameters
    ----------
    mask : ndarray of bool, any number of axes

    Returns
    -------
    tuple of slice
        One for each axis, with explicit start and stop.
    """
    box = []
    remaining = mask
    for axis in range(mask.ndim):
        # Cropping axis by axis makes each next look cheaper.
        filled = np.flatnonzero(remaining.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if len(filled) == 0:
            return tuple(slice(0, size) for size in mask.shape)
        found = slice(int(filled[0]), int(filled[-1]) + 1)
        remaining = remaining[(slice(None),) * axis + (found,)]
        box.append(found)
    return tuple(box)


def _label(mask: np.ndarray) -> np.ndarray:
    """6-connected components of `mask`, numbered from 1."""
    try:
        import cc3d
    except ImportError:
        from scipy import ndimage

        return ndimage.label(mask)[0]
    return cc3d.connected_components(mask, connectivity=6)

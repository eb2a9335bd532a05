"""Fill holes in a region."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from bts_auto.evaluate.components import label_components
from bts_auto.evaluate.pair import union_box
from bts_auto.postprocess.context import Context
from bts_auto.postprocess.options import FillHolesOptions


def fill_holes(mask: np.ndarray, context: Context, options: FillHolesOptions) -> np.ndarray:
    """Fill background that the region encloses. Voxels of other labels in a hole keep their label."""
    out = mask.copy()
    region = context.mask(mask, options.region)
    box = union_box(region)
    inner = region[box]
    if inner.size == 0:
        return out
    filled = ndimage.binary_fill_holes(inner) if inner.shape[0] > 1 else inner
    if options.in_slices or inner.shape[0] == 1:
        filled = filled | np.stack([ndimage.binary_fill_holes(plane) for plane in inner])
    part = out[box]
    holes = filled & ~inner & (part == 0)
    if options.label is not None:
        part[holes] = context.painted(options.label)
        return out
    _fill_from_rim(part, holes)
    return out


def _fill_from_rim(part: np.ndarray, holes: np.ndarray) -> None:
    """Give each hole the label most frequent among the voxels that touch it (the lowest integer in a tie)."""
    components, sizes = label_components(holes, 6)
    if len(sizes) == 1:
        return
    cross = ndimage.generate_binary_structure(3, 1)
    for number, found in enumerate(ndimage.find_objects(components), start=1):
        window = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in found)
        hole = components[window] == number
        rim = ndimage.binary_dilation(hole, cross) & ~hole & (part[window] != 0)
        if rim.any():
            part[window][hole] = np.bincount(part[window][rim]).argmax()

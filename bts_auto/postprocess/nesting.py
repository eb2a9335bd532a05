"""Nested regions repaired: an inner region only where every outer one is."""

from __future__ import annotations

import numpy as np

from bts_auto.postprocess.context import Context
from bts_auto.postprocess.options import NestingOptions


def nesting(mask: np.ndarray, context: Context, options: NestingOptions) -> np.ndarray:
    """Take inner regions (ET) away where an outer region that contains them (TC, WT) is not predicted.

    Painting regions in order lets an inner region stand on its own where the network contradicts itself. A label map by
    itself is always nested, so without probabilities, or with plain labels, nothing changes.
    """
    labels = context.labels
    if not labels.has_regions or context.probabilities is None:
        return mask.copy()
    regions = [set(labels.values[name]) for name in labels.foreground]
    inside = context.probabilities > options.threshold
    for channel, inner in enumerate(regions):
        for other, outer in enumerate(regions):
            if inner < outer:
                inside[channel] &= context.probabilities[other] > options.threshold
    out = labels.decode(inside).astype(mask.dtype)
    # Rules that came before may have emptied voxels; they stay empty.
    out[mask == 0] = 0
    return out

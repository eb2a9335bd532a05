"""Nested regions repaired: an inner region only where every outer one is."""

from __future__ import annotations

import numpy as np

from bts_auto.postprocess.context import Context
from bts_auto.postprocess.options import NestingOptions


def nesting(mask: np.ndarray, context: Context, options: NestingOptions) -> np.ndarray:
    """Take inner regions (ET) away where an outer region that contains them (TC, WT) is not predicted.

    Painting regions in order lets an inner region stand on its own where the network contradicts itself. A label map by
    itself is always nested, so without probabilities, or with plain labels, nothing changes. Voxels without such a
    contradiction stay as the rules before have left them.
    """
    labels = context.labels
    if not labels.has_regions or context.probabilities is None:
        return mask.copy()
    regions = [set(labels.values[name]) for name in labels.foreground]
    predicted = context.probabilities > options.threshold
    inside, alone = predicted.copy(), np.zeros(mask.shape, bool)
    for channel, inner in enumerate(regions):
        for other, outer in enumerate(regions):
            if inner < outer:
                inside[channel] &= predicted[other]
                alone |= np.isin(mask, list(inner)) & ~predicted[other]
    return np.where(alone, labels.decode(inside).astype(mask.dtype), mask)

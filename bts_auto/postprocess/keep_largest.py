"""Keep the largest connected component of a region."""

from __future__ import annotations

import numpy as np

from bts_auto.evaluate.components import label_components
from bts_auto.postprocess.context import Context
from bts_auto.postprocess.options import KeepLargestOptions
from bts_auto.postprocess.relabel import relabel


def keep_largest(mask: np.ndarray, context: Context, options: KeepLargestOptions) -> np.ndarray:
    """Remove every component of the region but the largest (the first of several equally large ones)."""
    components, sizes = label_components(context.mask(mask, options.region), options.connectivity)
    if len(sizes) <= 2:
        return mask.copy()
    largest = 1 + int(np.argmax(sizes[1:]))
    return relabel(mask, (components != 0) & (components != largest), context, options.becomes, options.region)

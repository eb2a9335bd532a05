"""Remove connected components below a volume."""

from __future__ import annotations

import numpy as np

from bts_auto.evaluate.components import label_components
from bts_auto.postprocess.context import Context
from bts_auto.postprocess.options import MinimumSizeOptions
from bts_auto.postprocess.relabel import relabel


def minimum_size(mask: np.ndarray, context: Context, options: MinimumSizeOptions) -> np.ndarray:
    """Remove every component of the region with fewer than `voxels` voxels (or less than `ml`)."""
    components, sizes = label_components(context.mask(mask, options.region), options.connectivity)
    least = options.voxels if options.voxels is not None else context.voxels(options.ml or 0.0)
    small = sizes < least
    small[0] = False
    return relabel(mask, small[components], context, options.becomes, options.region)

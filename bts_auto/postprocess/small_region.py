"""A region too small to be believed becomes the label around it: small enhancing tumour becomes necrosis."""

from __future__ import annotations

import numpy as np

from bts_auto.postprocess.context import Context
from bts_auto.postprocess.options import SmallRegionOptions
from bts_auto.postprocess.relabel import around, relabel


def small_region(mask: np.ndarray, context: Context, options: SmallRegionOptions) -> np.ndarray:
    """Relabel the whole region where its total volume in the case is below `voxels` (or `ml`).

    BraTS scores a case without enhancing tumour in the reference as 0 as soon as one voxel of it is predicted, so that
    giving up small ones pays.

    References
    ----------
    Isensee et al., nnU-Net for brain tumor segmentation, BrainLes 2020 (LNCS 12659), section 2.3.
    """
    where = context.mask(mask, options.region)
    least = options.voxels if options.voxels is not None else context.voxels(options.ml or 0.0)
    if np.count_nonzero(where) >= least:
        return mask.copy()
    becomes = around(context, options.region) if options.becomes is None else options.becomes
    return relabel(mask, where, context, becomes, options.region)

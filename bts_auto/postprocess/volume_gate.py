"""A small decision tree on predicted volumes that gives up a region."""

from __future__ import annotations

import numpy as np

from bts_auto.postprocess.context import Context
from bts_auto.postprocess.options import VolumeGateOptions
from bts_auto.postprocess.relabel import relabel


def volume_gate(mask: np.ndarray, context: Context, options: VolumeGateOptions) -> np.ndarray:
    """Remove the region where its volume is at most one bound while another region's volume is above a second.

    References
    ----------
    Jabareen and Lukassen, segmenting brain tumors in multi-modal MRI scans using a 3D SegNet architecture, BrainLes
    2021.
    """
    where = context.mask(mask, options.region)
    other = np.count_nonzero(context.mask(mask, options.other))
    small = np.count_nonzero(where) <= context.voxels(options.at_most_ml)
    if not small or other <= context.voxels(options.above_ml):
        return mask.copy()
    return relabel(mask, where, context, options.becomes, options.region)

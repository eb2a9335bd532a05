"""Remove what lies outside the brain."""

from __future__ import annotations

import numpy as np

from bts_auto.postprocess.context import Context


def outside_brain(mask: np.ndarray, context: Context, options: None = None) -> np.ndarray:
    """Set voxels outside the brain mask (where the skull-stripped image is not zero) to background.

    Raises
    ------
    PlanError
        When the case comes without a brain mask.
    """
    return np.where(context.brain_mask(), mask, 0).astype(mask.dtype)

"""Boundary loss."""

from __future__ import annotations

from torch import Tensor

from bts_auto.losses.dense import dense
from bts_auto.losses.maps import SIGNED_DISTANCE
from bts_auto.losses.options import BoundaryOptions
from bts_auto.losses.target import Target


class Boundary:
    """Mean of each voxel's wrong probability times its distance from the true boundary; 0 at perfection.

    The published integral of probability times signed distance, less its value at perfection: the gradient is the same.
    It is linear in the probability: a term to go with an overlap loss, not to train with alone.

    Parameters
    ----------
    options : BoundaryOptions
    batch_dice : bool
        Without effect.

    References
    ----------
    Kervadec et al., Boundary loss for highly unbalanced segmentation, MIDL 2019, equation 5.
    """

    def __init__(self, options: BoundaryOptions, *, batch_dice: bool = False) -> None:
        self.options = options

    def __call__(self, logits: Tensor, target: Target) -> Tensor:
        """(b, k, \\*s) -> scalar, at least 0."""
        voxels = dense(logits, target, target.maps[SIGNED_DISTANCE], background=self.options.background)
        return voxels.mean(voxels.distance * (voxels.predicted - voxels.true.to(voxels.predicted.dtype)))

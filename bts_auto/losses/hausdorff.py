"""Hausdorff distance loss by distance transforms."""

from __future__ import annotations

from torch import Tensor

from bts_auto.losses.dense import dense
from bts_auto.losses.maps import SIGNED_DISTANCE
from bts_auto.losses.options import HausdorffOptions
from bts_auto.losses.target import Target


class Hausdorff:
    """Mean of each voxel's squared error times a power of its distance from the true boundary; 0 at perfection.

    The published one-sided form: distances from the predicted boundary would have to be worked out anew in every step.

    Parameters
    ----------
    options : HausdorffOptions
    batch_dice : bool
        Without effect.

    References
    ----------
    Karimi, Salcudean, Reducing the Hausdorff Distance in Medical Image Segmentation with Convolutional Neural Networks,
    IEEE TMI 39(2), 2020, section II-B (loss by one-sided distance transform).
    """

    def __init__(self, options: HausdorffOptions, *, batch_dice: bool = False) -> None:
        self.options = options

    def __call__(self, logits: Tensor, target: Target) -> Tensor:
        """(b, k, \\*s) -> scalar, at least 0."""
        voxels = dense(logits, target, target.maps[SIGNED_DISTANCE], background=self.options.background)
        error = voxels.predicted - voxels.true.to(voxels.predicted.dtype)
        return voxels.mean(error.square() * voxels.distance.abs() ** self.options.alpha)

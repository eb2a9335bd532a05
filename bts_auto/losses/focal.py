"""Focal loss."""

from __future__ import annotations

import torch
from torch import Tensor

from bts_auto.losses.cross_entropy import valid_voxels, voxelwise
from bts_auto.losses.options import FocalOptions
from bts_auto.losses.target import Target


class Focal:
    """Mean cross entropy in which a voxel counts less the surer the network is of its truth; 0 when none is valid.

    Parameters
    ----------
    options : FocalOptions
    batch_dice : bool
        Without effect.

    References
    ----------
    Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, equation 4.
    """

    def __init__(self, options: FocalOptions, *, batch_dice: bool = False) -> None:
        self.options = options

    def __call__(self, logits: Tensor, target: Target) -> Tensor:
        """(b, k, \\*s) -> scalar, at least 0."""
        loss = voxelwise(logits, target)
        wrong = -torch.expm1(-loss)  # one minus the probability of the truth
        return (wrong**self.options.gamma * loss).sum() / valid_voxels(target)

"""Cross entropy in which some channels count more."""

from __future__ import annotations

import torch
from torch import Tensor

from bts_auto.errors import PlanError
from bts_auto.losses.cross_entropy import known_entries, voxelwise
from bts_auto.losses.options import WeightedCrossEntropyOptions
from bts_auto.losses.target import Target


class WeightedCrossEntropy:
    """Weighted mean of the voxels' cross entropy; 0 when no voxel is valid.

    Parameters
    ----------
    options : WeightedCrossEntropyOptions
        With weights, a voxel counts with the weight of its true class, or of the region. Without, all classes in the
        batch count the same in sum; so do, for a region, its inside and its outside.
    batch_dice : bool
        Without effect.

    References
    ----------
    Ronneberger et al., U-Net, MICCAI 2015, section 3 (class-balancing weights).
    """

    def __init__(self, options: WeightedCrossEntropyOptions, *, batch_dice: bool = False) -> None:
        self.options = options

    def __call__(self, logits: Tensor, target: Target) -> Tensor:
        """(b, k, \\*s) -> scalar, at least 0.

        Raises
        ------
        PlanError
            When the number of weights is not that of the channels.
        """
        k = logits.shape[1]
        if self.options.weights and len(self.options.weights) != k:
            raise PlanError(f"weighted_cross_entropy has {len(self.options.weights)} weights for {k} channels")
        loss = voxelwise(logits, target)
        with torch.no_grad():
            weight = (
                self._class_weights(loss, target, k) if target.regions is None else self._region_weights(loss, target)
            )
            known = target.valid if target.regions is None else known_entries(target, loss)
            if known is not None:
                weight = weight * known
            total = weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)
        return (loss * weight).sum() / total

    def _class_weights(self, loss: Tensor, target: Target, k: int) -> Tensor:
        """The weight of each voxel, (b, 1, \\*s)."""
        assert target.classes is not None
        if self.options.weights:
            weights = torch.tensor(self.options.weights, dtype=loss.dtype, device=loss.device)
        else:
            counted = target.classes if target.valid is None else target.classes[target.valid[:, 0]]
            weights = torch.bincount(counted.flatten(), minlength=k).to(loss.dtype).clamp_min(1).reciprocal()
        return weights[target.classes].unsqueeze(1)

    def _region_weights(self, loss: Tensor, target: Target) -> Tensor:
        """The weight of each voxel in each region, (b, r, \\*s)."""
        assert target.regions is not None
        shape = (1, -1, *[1] * (loss.ndim - 2))
        if self.options.weights:
            weights = torch.tensor(self.options.weights, dtype=loss.dtype, device=loss.device).reshape(shape)
            return weights.expand_as(loss)
        axes = (0, *range(2, loss.ndim))
        known = known_entries(target, loss)
        valid = torch.ones_like(target.regions) if known is None else known.expand_as(target.regions)
        inside = (target.regions & valid).sum(axes).clamp_min(1).reshape(shape)
        outside = (~target.regions & valid).sum(axes).clamp_min(1).reshape(shape)
        return torch.where(target.regions, 1 / inside, 1 / outside).to(loss.dtype)

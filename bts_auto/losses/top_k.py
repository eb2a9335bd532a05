"""Cross entropy of the worst voxels."""

from __future__ import annotations

from torch import Tensor

from bts_auto.losses.cross_entropy import valid_voxels, voxelwise
from bts_auto.losses.options import TopKOptions
from bts_auto.losses.target import Target


class TopK:
    """Mean cross entropy of the share of the batch's valid voxels (times regions) that are worst; 0 when none is valid.

    Parameters
    ----------
    options : TopKOptions
    batch_dice : bool
        Without effect.

    References
    ----------
    Wu et al., Bridging Category-level and Instance-level Semantic Image Segmentation, 2016, section 3.
    """

    def __init__(self, options: TopKOptions, *, batch_dice: bool = False) -> None:
        self.options = options

    def __call__(self, logits: Tensor, target: Target) -> Tensor:
        """(b, k, \\*s) -> scalar, at least 0."""
        loss = voxelwise(logits, target).flatten()
        count = max(1, int(self.options.share * int(valid_voxels(target))))
        return loss.topk(count, sorted=False).values.mean()  # voxels that are not valid have no loss, so come last

"""Tversky index."""

from __future__ import annotations

from torch import Tensor

from bts_auto.losses.options import TverskyOptions
from bts_auto.losses.overlap import overlap
from bts_auto.losses.target import Target


class Tversky:
    """Minus the mean Tversky index over channels (and samples): -1 at perfection.

    Parameters
    ----------
    options : TverskyOptions
        What a false positive and a false negative cost; more for the latter finds more of a small lesion.
    batch_dice : bool
        Whether the samples of a batch are counted as one volume.

    References
    ----------
    Salehi et al., Tversky Loss Function for Image Segmentation, MLMI 2017, equation 3.
    """

    def __init__(self, options: TverskyOptions, *, batch_dice: bool) -> None:
        self.options = options
        self.batch_dice = batch_dice

    def __call__(self, logits: Tensor, target: Target) -> Tensor:
        """(b, k, \\*s) -> scalar in [-1, 0]."""
        sums = overlap(logits, target, background=self.options.background)
        if self.batch_dice:
            sums = sums.pooled()
        false_positives = self.options.false_positives * (sums.predicted - sums.intersection)
        false_negatives = self.options.false_negatives * (sums.true - sums.intersection)
        right = sums.intersection + self.options.smooth
        return -sums.mean(right / (right + false_positives + false_negatives))

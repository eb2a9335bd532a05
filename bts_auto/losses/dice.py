"""Soft Dice."""

from __future__ import annotations

from torch import Tensor

from bts_auto.losses.options import DiceOptions
from bts_auto.losses.overlap import overlap
from bts_auto.losses.target import Target

_SMALLEST_DENOMINATOR = 1e-8


class SoftDice:
    """Minus the mean soft Dice over channels (and samples): -1 at perfection.

    A channel that is neither predicted nor true scores 1, as far as `smooth` reaches.

    Parameters
    ----------
    options : DiceOptions
    batch_dice : bool
        Whether the samples of a batch are counted as one volume.

    References
    ----------
    Milletari et al., V-Net, 3DV 2016, section 3; linear denominator: Drozdzal et al., DLMIA 2016, equation 3; `smooth`
    and the choice of channels: nnU-Net v2.
    """

    def __init__(self, options: DiceOptions, *, batch_dice: bool) -> None:
        self.options = options
        self.batch_dice = batch_dice

    def __call__(self, logits: Tensor, target: Target) -> Tensor:
        """(b, k, \\*s) -> scalar in [-1, 0]."""
        sums = overlap(logits, target, background=self.options.background)
        if self.batch_dice:
            sums = sums.pooled()
        smooth = self.options.smooth
        denominator = (sums.true + sums.predicted + smooth).clamp_min(_SMALLEST_DENOMINATOR)
        return -sums.mean((2 * sums.intersection + smooth) / denominator)

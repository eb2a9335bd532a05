"""Generalised Dice."""

from __future__ import annotations

from torch import Tensor

from bts_auto.losses.options import GeneralisedDiceOptions
from bts_auto.losses.overlap import overlap
from bts_auto.losses.target import Target

_POWERS = {"square": 2, "simple": 1, "uniform": 0}


class GeneralisedDice:
    """Minus the generalised Dice, a single ratio over all channels in which small ones weigh more: -1 at perfection.

    A channel that does not occur has the largest weight of those that do, so that predicting it costs something; the
    published formula divides by zero there.

    Parameters
    ----------
    options : GeneralisedDiceOptions
    batch_dice : bool
        Whether the samples of a batch are counted as one volume.

    References
    ----------
    Sudre et al., Generalised Dice Overlap as a Deep Learning Loss Function, DLMIA 2017, section 2.1.
    """

    def __init__(self, options: GeneralisedDiceOptions, *, batch_dice: bool) -> None:
        self.options = options
        self.batch_dice = batch_dice

    def __call__(self, logits: Tensor, target: Target) -> Tensor:
        """(b, k, \\*s) -> scalar in [-1, 0]."""
        sums = overlap(logits, target, background=self.options.background)
        if self.batch_dice:
            sums = sums.pooled()
        weights = sums.true.clamp_min(1) ** -_POWERS[self.options.weighting]
        largest = weights.masked_fill(sums.true == 0, 0).amax(1, keepdim=True)
        largest = largest.masked_fill(largest == 0, 1)  # nothing occurs at all
        weights = weights.where(sums.true > 0, largest) / largest
        smooth = self.options.smooth
        intersection = (weights * sums.intersection).sum(1)
        volumes = (weights * (sums.true + sums.predicted)).sum(1)
        score = (2 * intersection + smooth) / (volumes + smooth)
        if sums.counted is None:
            return -score.mean()
        says = sums.counted.any(1)
        return -(score * says).sum() / says.sum().clamp_min(1)

"""What losses of single voxels and channels are made of: probability, truth, and where the truth is known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bts_auto.losses.across import HERE, Across
from bts_auto.losses.cross_entropy import known_entries
from bts_auto.losses.maps import dense_truth
from bts_auto.losses.marginal import marginal_logits
from bts_auto.losses.target import Target


@dataclass(frozen=True)
class Dense:
    """Voxels of the channels that count, each of shape (b, k, \\*s).

    Attributes
    ----------
    predicted : Tensor
        Probability, in at least single precision.
    true : Tensor of bool
    distance : Tensor
        See :func:`bts_auto.losses.maps.signed_distance`.
    known : Tensor of bool, or None
        To be broadcast; None: everywhere.
    across : Across
        Reaches the samples that other processes hold.
    """

    predicted: Tensor
    true: Tensor
    distance: Tensor
    known: Tensor | None
    across: Across = HERE

    def mean(self, values: Tensor) -> Tensor:
        """The mean of `values` over what is known; 0 where nothing is."""
        if self.known is None and self.across is HERE:
            return values.mean()
        known = torch.ones_like(values) if self.known is None else self.known.expand_as(values)
        count = self.across.sum(known.sum(dtype=torch.float64)) * self.across.share
        return (values * known).sum() / count.clamp_min(1e-30).to(values.dtype)


def dense(logits: Tensor, target: Target, distance: Tensor, *, background: bool) -> Dense:
    """Put logits, truth and distances of shape (b, k, \\*s) side by side; `background`: whether softmax's counts."""
    precision = torch.promote_types(logits.dtype, torch.float32)
    first = 0 if background or target.classes is None else 1
    if target.classes is not None:
        predicted = marginal_logits(logits, target).softmax(1, dtype=precision)
    else:
        predicted = torch.sigmoid(logits.to(precision))
    known = known_entries(target, logits)
    if known is not None and known.shape[1] > 1:
        known = known[:, first:]
    truth = dense_truth(target, logits.shape[1])
    return Dense(predicted[:, first:], truth[:, first:], distance[:, first:], known, target.across)

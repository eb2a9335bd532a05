"""The sums over voxels that all overlap losses (Dice, Tversky, ...) are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bts_auto.losses.across import HERE, Across
from bts_auto.losses.marginal import marginal_logits
from bts_auto.losses.target import Target, over_space


@dataclass(frozen=True)
class Overlap:
    """Soft voxel counts per sample and channel, each of shape (b, k), or (1, k) when pooled over the batch.

    Attributes
    ----------
    intersection : Tensor
        Sum of the predicted probability where the channel is true.
    predicted : Tensor
        Sum of the predicted probability.
    true : Tensor
        Number of voxels where the channel is true.
    counted : Tensor of bool, or None
        Which of the entries say anything; the sums of the others are 0. None: all.
    across : Across
        Reaches the samples that other processes hold.
    """

    intersection: Tensor
    predicted: Tensor
    true: Tensor
    counted: Tensor | None = None
    across: Across = HERE

    def pooled(self) -> Overlap:
        """The sums over the whole batch, wherever its samples are."""
        sums = [part.sum(0, keepdim=True) for part in (self.intersection, self.predicted, self.true)]
        counted = None if self.counted is None else self.counted.any(0, True)
        if self.across is HERE:
            return Overlap(sums[0], sums[1], sums[2], counted)
        # All processes have to exchange the same, also those whose samples are annotated in full.
        says = torch.ones_like(sums[0]) if counted is None else counted.to(sums[0].dtype)
        intersection, predicted, true, said = self.across.sum(torch.stack([*sums, says]))
        return Overlap(intersection, predicted, true, said > 0)

    def mean(self, scores: Tensor) -> Tensor:
        """The mean of `scores`, shape (b, k), over the entries that say anything; 0 where none does."""
        if self.counted is None and self.across is HERE:
            return scores.mean()
        counted = torch.ones_like(scores) if self.counted is None else self.counted
        return (scores * counted).sum() / (self.across.sum(counted.sum()).clamp_min(1) * self.across.share)


def overlap(logits: Tensor, target: Target, *, background: bool = False) -> Overlap:
    """Count overlaps of the predicted probabilities with the truth, in at least single precision.

    Parameters
    ----------
    logits : Tensor, shape (b, k, \\*s)
    target : Target
        Classes make softmax probabilities, regions sigmoid ones. Voxels that are not valid count nowhere, nor do
        channels that the sample is not annotated for.
    background : bool
        Whether channel 0 of softmax counts.
    """
    precision = torch.promote_types(logits.dtype, torch.float32)
    counted = target.counted()
    if target.classes is not None:
        probabilities = marginal_logits(logits, target).softmax(1, dtype=precision)
        first = 0 if background else 1
        intersection, predicted, true = (
            part[:, first:] for part in _ClassSums.apply(probabilities, target.classes, target.valid)
        )
        counted = None if counted is None else counted[:, first:]
        return Overlap(intersection, predicted, true, counted, target.across)
    assert target.regions is not None
    probabilities, regions = torch.sigmoid(logits.to(precision)), target.belonging()
    axes = tuple(range(2, logits.ndim))
    if target.valid is not None:
        probabilities, regions = probabilities * target.valid, regions * target.valid
    if counted is not None:
        here = over_space(counted, probabilities)
        probabilities, regions = probabilities * here, regions * here
    true = regions.sum(axes, dtype=precision)
    return Overlap((probabilities * regions).sum(axes), probabilities.sum(axes), true, counted, target.across)


class _ClassSums(torch.autograd.Function):
    """Per class: probability where it is true, probability, voxels where it is true.

    A function of its own because the truth is one integer per voxel: neither direction needs it one-hot, and what is
    kept for the way back are the integers alone.
    """

    @staticmethod
    def forward(ctx: Any, probabilities: Tensor, classes: Tensor, valid: Tensor | None) -> tuple[Tensor, ...]:
        index = classes.unsqueeze(1)
        of_truth = probabilities.gather(1, index).flatten(1)
        ones = torch.ones_like(of_truth)
        masked = probabilities
        if valid is not None:
            masked = probabilities * valid
            of_truth, ones = of_truth * valid.flatten(1), valid.flatten(1).to(of_truth.dtype)
        k, flat = probabilities.shape[1], classes.flatten(1)
        ctx.save_for_backward(classes, valid)
        ctx.shape = probabilities.shape
        true = _sums_by_class(ones, flat, k)
        ctx.mark_non_differentiable(true)
        return _sums_by_class(of_truth, flat, k), masked.flatten(2).sum(2), true

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_intersection: Tensor, of_predicted: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        classes, valid = ctx.saved_tensors
        b, k, *size = ctx.shape
        gradient = of_predicted.reshape(b, k, *[1] * len(size)).expand(ctx.shape).contiguous()
        at_truth = of_intersection.gather(1, classes.flatten(1)).reshape(b, 1, *size)
        gradient.scatter_add_(1, classes.unsqueeze(1), at_truth)  # one addend a voxel: the same sum every time
        if valid is not None:
            gradient.mul_(valid)
        return gradient, None, None


def _sums_by_class(values: Tensor, classes: Tensor, k: int) -> Tensor:
    """Sum `values` (b, n) over the voxels of each class (b, n) -> (b, k).

    The CPU adds one voxel after another, in double precision since millions of addends would exhaust single precision.
    Elsewhere, where scattered additions race each other, one reduction per class gives the same sum every time.
    """
    if values.device.type == "cpu":
        sums = torch.zeros(values.shape[0], k, dtype=torch.float64)
        return sums.scatter_add_(1, classes, values.double()).to(values.dtype)
    return torch.stack([torch.where(classes == c, values, 0).sum(1) for c in range(k)], dim=1)

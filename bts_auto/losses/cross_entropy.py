"""Cross entropy of exclusive classes, binary cross entropy of regions."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from bts_auto.losses.across import HERE
from bts_auto.losses.marginal import marginal_logits
from bts_auto.losses.options import CrossEntropyOptions
from bts_auto.losses.target import Target, over_space

NOT_VALID = -100


def voxelwise(logits: Tensor, target: Target, label_smoothing: float = 0.0) -> Tensor:
    """Cross entropy of each voxel in nats, at least in single precision, 0 where the target is not known.

    Returns
    -------
    Tensor, shape (b, 1, \\*s) for classes, (b, r, \\*s) for regions
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    if target.classes is not None:
        classes, counted = masked_classes(target), target.counted()
        logits = marginal_logits(logits, target)
        if counted is not None and label_smoothing:
            return _smoothed(logits, classes, over_space(counted, logits), label_smoothing)
        loss = functional.cross_entropy(
            logits, classes, ignore_index=NOT_VALID, label_smoothing=label_smoothing, reduction="none"
        )
        return loss.unsqueeze(1)
    truth = smoothed_regions(target, logits.dtype, label_smoothing)
    loss = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    known = known_entries(target, logits)
    return loss if known is None else loss * known


def _smoothed(logits: Tensor, classes: Tensor, counted: Tensor, label_smoothing: float) -> Tensor:
    """Cross entropy (b, 1, \\*s) with a truth that is drawn towards all classes that count; those that do not have a
    logit of minus infinity."""
    entropy = -logits.log_softmax(1)
    valid = (classes != NOT_VALID).unsqueeze(1)
    of_truth = entropy.gather(1, classes.clamp_min(0).unsqueeze(1))
    of_all = entropy.masked_fill(~counted, 0).sum(1, keepdim=True) / counted.sum(1, keepdim=True)
    return ((1 - label_smoothing) * of_truth + label_smoothing * of_all) * valid


def masked_classes(target: Target) -> Tensor:
    """The classes (b, \\*s), `NOT_VALID` where the target is not valid."""
    assert target.classes is not None
    return target.classes if target.valid is None else target.classes.masked_fill(~target.valid[:, 0], NOT_VALID)


def smoothed_regions(target: Target, kind: torch.dtype, label_smoothing: float = 0.0) -> Tensor:
    """How far voxels belong to regions (b, r, \\*s), drawn towards 1/2 by `label_smoothing`."""
    truth = target.belonging().to(kind)
    return truth if label_smoothing == 0 else truth * (1 - label_smoothing) + label_smoothing / 2


def known_entries(target: Target, logits: Tensor) -> Tensor | None:
    """Where the truth of regions is known, to be broadcast to (b, r, \\*s): valid voxels of regions that count."""
    counted = target.counted()
    if counted is None:
        return target.valid
    here = over_space(counted, logits)
    return here if target.valid is None else here & target.valid


def valid_voxels(target: Target) -> Tensor | int:
    """How many entries a mean over the target's valid voxels (times regions that count) has; at least 1.

    Of a batch whose samples lie in several processes it is this one's share of all of them, so that the processes'
    means, weighted by their shares, are the mean over the batch.
    """
    across = target.across
    if across is HERE:
        return _valid_voxels_here(target)
    return across.sum(torch.as_tensor(_valid_voxels_here(target), device=target.device)) * across.share


def _valid_voxels_here(target: Target) -> Tensor | int:
    if target.regions is not None and (counted := target.counted()) is not None:
        per_sample = math.prod(target.size) if target.valid is None else target.valid.flatten(1).sum(1)
        return (counted.sum(1) * per_sample).sum().clamp_min(1)
    channels = 1 if target.regions is None else target.regions.shape[1]
    if target.valid is not None:
        return target.valid.sum().clamp_min(1) * channels
    shaped = target.classes if target.regions is None else target.regions
    assert shaped is not None
    return shaped.numel()


class CrossEntropy:
    """Mean cross entropy over the valid voxels (and regions); 0 when no voxel is valid.

    Where nnU-Net has regions and an ignore label, it divides by the valid voxels alone, so that its term grows with the
    number of regions; here the mean is a mean, with or without an ignore label.

    Parameters
    ----------
    options : CrossEntropyOptions
    batch_dice : bool
        Without effect: a mean over voxels does not depend on it.
    """

    def __init__(self, options: CrossEntropyOptions, *, batch_dice: bool = False) -> None:
        self.options = options

    def __call__(self, logits: Tensor, target: Target) -> Tensor:
        """(b, k, \\*s) -> scalar, at least 0."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        smoothing = self.options.label_smoothing
        if target.counts_in is not None:
            return voxelwise(logits, target, smoothing).sum() / valid_voxels(target)
        if target.classes is not None:
            total = functional.cross_entropy(
                logits, masked_classes(target), ignore_index=NOT_VALID, label_smoothing=smoothing, reduction="sum"
            )
            return total / valid_voxels(target)
        truth = smoothed_regions(target, logits.dtype, smoothing)
        weight = None if target.valid is None else target.valid.to(logits.dtype)
        total = functional.binary_cross_entropy_with_logits(logits, truth, weight, reduction="sum")
        return total / valid_voxels(target)

"""Losses at several resolutions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from bts_auto.losses.target import Target

Loss = Callable[[Tensor, Target], Tensor]


def scale_weights(n_scales: int) -> tuple[float, ...]:
    """Weights of the resolutions, finest first: 1, 1/2, 1/4, ..., the coarsest 0 if there are several; they sum to 1.

    nnU-Net v2's rule (nnUNetTrainer._build_loss).
    """
    weights = [0.5**scale for scale in range(n_scales)]
    if n_scales > 1:
        weights[-1] = 0.0
    return tuple(weight / sum(weights) for weight in weights)


class DeepSupervision:
    """The weighted sum of the loss terms over all resolutions.

    Parameters
    ----------
    terms : sequence of (weight, loss)
    n_scales : int
        Number of resolutions.
    weights : sequence of float, optional
        One weight per resolution, finest first; None: :func:`scale_weights`. A resolution of weight 0 is not computed.
    """

    def __init__(
        self, terms: Sequence[tuple[float, Loss]], n_scales: int, *, weights: Sequence[float] | None = None
    ) -> None:
        self.terms = tuple(terms)
        self.weights = scale_weights(n_scales) if weights is None else tuple(weights)
        if len(self.weights) != n_scales:
            raise ValueError(f"{len(self.weights)} weights for {n_scales} resolutions")

    def __call__(self, outputs: Mapping[str, list[Tensor]], targets: Sequence[Target]) -> Tensor:
        """``{"logits": [(b, k, \\*s), ...]}`` and one target per resolution -> scalar."""
        return self.detailed(outputs, targets)[0]

    def detailed(
        self, outputs: Mapping[str, list[Tensor]], targets: Sequence[Target]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The loss, and each term's part of it, in order and detached; the parts' sum is the loss.

        Raises
        ------
        ValueError
            When the numbers of outputs, targets and weights differ.
        """
        logits = outputs["logits"]
        if not len(logits) == len(targets) == len(self.weights):
            raise ValueError(f"{len(logits)} outputs and {len(targets)} targets for {len(self.weights)} weights")
        parts = []
        for term_weight, loss in self.terms:
            at_scales = [
                weight * loss(scaled, target)
                for weight, scaled, target in zip(self.weights, logits, targets, strict=True)
                if weight > 0
            ]
            parts.append(term_weight * torch.stack(at_scales).sum())
        return torch.stack(parts).sum(), tuple(part.detach() for part in parts)


def downsample_target(target: Target, sizes: Sequence[Sequence[int]]) -> list[Target]:
    """The target at each of `sizes` (spatial), taken from the nearest voxel.

    Of a block of voxels the one whose centre is nearest to the block's centre is taken, the later one of two
    (``nearest-exact``), as nnU-Net v2 does.
    """
    return [_at_size(target, tuple(size)) for size in sizes]


def _at_size(target: Target, size: tuple[int, ...]) -> Target:
    if size == target.size:
        return target
    indices = [_nearest(old, new, target.device) for old, new in zip(target.size, size, strict=True)]

    def pick(tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        for axis, index in enumerate(indices, start=tensor.ndim - len(size)):
            tensor = tensor.index_select(axis, index)
        return tensor

    maps = {name: tensor[...] if tensor.ndim == 2 else pick(tensor) for name, tensor in target.maps.items()}
    picked = pick(target.classes), pick(target.regions), pick(target.valid)
    return Target(*picked, maps, target.counts_in, pick(target.shares), target.across)  # type: ignore[arg-type]


def _nearest(old: int, new: int, device: torch.device) -> Tensor:
    """For each of `new` voxels the index of the nearest of `old`."""
    centres = (torch.arange(new, device=device, dtype=torch.float64) + 0.5) * (old / new)
    return centres.floor().long().clamp_max(old - 1)

"""What a loss is told about the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from bts_auto.losses.across import HERE, Across


@dataclass(frozen=True)
class Target:
    """The truth at one resolution. Exactly one of `classes` and `regions` is given.

    Attributes
    ----------
    classes : LongTensor, shape (b, \\*s), or None
        The index of the network channel that is right (softmax). Where `valid` is False, any index.
    regions : BoolTensor, shape (b, r, \\*s), or None
        Which regions a voxel belongs to, one network channel each (sigmoid).
    valid : BoolTensor, shape (b, 1, \\*s), or None
        Where the truth is known; None: everywhere.
    maps : mapping of str to Tensor, shape (b, m, \\*s)
        What a loss has asked for by name (distance maps, presence).
    counts_in : tuple of tuple of int, or None
        For each sample and each of the k channels the channel that it counts in: a region without annotation in none
        (-1), an exclusive class without annotation in the one that it cannot be told from, mostly the background, where
        `classes` says so too. None: every channel counts as itself.
    shares : Tensor of float, shape (b, r, \\*s), or None
        Soft truth: how far a voxel belongs to each region, such as the share of raters who say so. Overlap and cross
        entropy take it in place of `regions`, which stay the truth for what needs borders and counts.
    across : Across
        Reaches the samples of the batch that other processes hold.
    """

    classes: torch.Tensor | None = None
    regions: torch.Tensor | None = None
    valid: torch.Tensor | None = None
    maps: Mapping[str, torch.Tensor] = field(default_factory=dict)
    counts_in: tuple[tuple[int, ...], ...] | None = None
    shares: torch.Tensor | None = None
    across: Across = HERE

    def __post_init__(self) -> None:
        if (self.classes is None) == (self.regions is None):
            raise ValueError("a target has either classes or regions")

    @property
    def _truth(self) -> torch.Tensor:
        truth = self.regions if self.classes is None else self.classes
        assert truth is not None  # checked when it was made
        return truth

    @property
    def size(self) -> tuple[int, ...]:
        """The spatial size \\*s."""
        return tuple(self._truth.shape[2:] if self.classes is None else self._truth.shape[1:])

    def counted(self) -> torch.Tensor | None:
        """Which channels count for each sample, bool of shape (b, k); None: all."""
        if self.counts_in is None:
            return None
        rows = [[into == channel for channel, into in enumerate(sample)] for sample in self.counts_in]
        return torch.tensor(rows, device=self.device)

    def belonging(self) -> torch.Tensor:
        """How far a voxel belongs to each region: `shares`, or `regions` as they are."""
        assert self.regions is not None
        return self.regions if self.shares is None else self.shares

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return self._truth.device


def over_space(entries: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Entries of shape (b, k) as (b, k, 1, ...), to go with `like` of shape (b, k, \\*s)."""
    return entries.reshape(*entries.shape, *[1] * (like.ndim - 2))

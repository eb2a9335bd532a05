"""What a loss is told about the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch


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
    """

    classes: torch.Tensor | None = None
    regions: torch.Tensor | None = None
    valid: torch.Tensor | None = None
    maps: Mapping[str, torch.Tensor] = field(default_factory=dict)

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

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return self._truth.device

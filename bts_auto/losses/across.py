"""The rest of the batch: samples that other processes hold when several train one network together."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Across(Protocol):
    """How what was counted here becomes what was counted over the whole batch.

    Attributes
    ----------
    share : float
        This process's part of the batch's samples.
    """

    share: float

    def sum(self, values: Tensor) -> Tensor:
        """The sum of `values` over all processes, the same in each; gradients flow back to every addend."""
        ...


class _Here:
    """All samples are here."""

    share = 1.0

    def sum(self, values: Tensor) -> Tensor:
        return values


HERE: Across = _Here()

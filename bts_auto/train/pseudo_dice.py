"""Dice on patches of held-out cases, a cheap sign of progress. No substitute for scores on whole volumes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from bts_auto.train.objectives.base import Confusion

# Weight of the past in the running mean that decides which state is the best (nnU-Net v2's).
_MEMORY = 0.9


@dataclass
class PseudoDice:
    """Counts voxels over all patches of an epoch, then takes one Dice per output."""

    names: Sequence[str]
    _counts: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self._counts = np.zeros((3, len(self.names)), dtype=np.int64)

    def add(self, confusion: Confusion) -> None:
        """Count a batch."""
        self._counts += np.stack([confusion.tp, confusion.fp, confusion.fn])

    def pool(self, sum_over_processes: Callable[[Tensor], Tensor]) -> None:
        """Count what other processes have counted, too."""
        self._counts = sum_over_processes(torch.from_numpy(self._counts)).numpy()

    def result(self) -> dict[str, float]:
        """Dice for each output; NaN where it is in no patch, neither predicted nor in truth."""
        tp, fp, fn = self._counts
        total = 2 * tp + fp + fn
        dice = np.divide(2 * tp, total, out=np.full(len(tp), np.nan), where=total > 0)
        return dict(zip(self.names, map(float, dice), strict=True))


def running_mean(before: float | None, dice: dict[str, float]) -> float | None:
    """The exponential running mean of the mean Dice over the outputs that have one."""
    values = [value for value in dice.values() if not math.isnan(value)]
    if not values:
        return before
    mean = sum(values) / len(values)
    return mean if before is None else _MEMORY * before + (1 - _MEMORY) * mean

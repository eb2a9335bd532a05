"""The seam between the loop and what is learnt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

LABELLED = "labelled"
"""The stream of batches with masks."""

UNLABELLED = "unlabelled"
"""The stream of scans without annotation; without any in the dataset it is the annotated ones, drawn anew."""


@dataclass(frozen=True)
class At:
    """Where the training stands.

    Attributes
    ----------
    step : int
        Optimiser steps done before this one.
    fraction : float
        Share of the training that is done, in [0, 1).
    """

    step: int
    fraction: float


@dataclass(frozen=True)
class Phase:
    """One loss to be minimised by one optimiser.

    Attributes
    ----------
    optimizer : str
        Name of the objective's optimiser that steps on this loss.
    loss : Tensor, shape ()
    terms : mapping of str to Tensor, shape ()
        Detached parts of the loss, for the journal.
    """

    optimizer: str
    loss: Tensor
    terms: Mapping[str, Tensor]


@dataclass(frozen=True)
class Confusion:
    """True positives, false positives and false negatives, each int64 with an entry for each name that is measured."""

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray


class Objective(Protocol):
    """What is learnt.

    Attributes
    ----------
    streams : tuple of str
        The named streams of batches that each step needs.
    modules : dict of str to Module
        Everything that has weights. ``modules["network"]`` is what a trained fold ships.
    optimizers : dict of str to Optimizer
    measured : tuple of str
        The names of what :meth:`measure` counts: outputs, and regions that they make.
    decisive : tuple of str
        Those of them whose mean says which weights are the best so far.
    """

    streams: tuple[str, ...]
    modules: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    measured: tuple[str, ...]
    decisive: tuple[str, ...]

    def compile(self, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Let the networks be called through what `wrap` makes of their calls; `modules` stay as they are."""
        ...

    def phases(self, batch: Mapping[str, Any], at: At) -> Iterator[Phase]:
        """Yield the losses of one step, one after another.

        A generator: each phase's forward pass runs when it is asked for, that is after the previous phase's optimiser
        has stepped. `batch` holds one batch on the right device for each of `streams`.
        """
        ...

    def measure(self, batch: Mapping[str, Any]) -> tuple[Tensor, Confusion]:
        """The loss and the voxel counts of a batch of held-out patches, in evaluation mode."""
        ...

"""All of a training's state that is not a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bts_auto.train.pace import Pace


@dataclass
class EpochSums:
    """What an epoch adds up until its line is written to the journal."""

    steps: int = 0
    loss: float = 0.0
    terms: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    waiting: float = 0.0

    def add(self, loss: float, terms: Mapping[str, float], seconds: float, waiting: float) -> None:
        """Count one step."""
        self.steps += 1
        self.loss += loss
        self.seconds += seconds
        self.waiting += waiting
        for name, value in terms.items():
            self.terms[name] = self.terms.get(name, 0.0) + value

    def means(self) -> dict[str, Any]:
        """The mean loss and terms, the seconds and the share of them spent waiting for batches."""
        steps = max(self.steps, 1)
        return {
            "loss": self.loss / steps,
            "terms": {name: value / steps for name, value in self.terms.items()},
            "seconds": round(self.seconds, 3),
            "waiting": round(self.waiting / self.seconds, 4) if self.seconds > 0 else 0.0,
        }


@dataclass
class Progress:
    """Where a training stands; saved as JSON with the weights.

    Attributes
    ----------
    pace : Pace
    step, epoch : int
        Optimiser steps done, epochs closed.
    lr_factor : float
        Factor of every learning rate; halved when a loss was not finite.
    retries : int
        How often the training went back to a saved state for that reason.
    seconds : float
        Time spent, over all parts of an interrupted run.
    running_dice, best_dice, best_epoch
        The running mean of the pseudo Dice, its best value and when that was.
    chosen_dice, chosen_epoch
        The best Dice on whole volumes and when that was, where the plan lets them choose the weights.
    sums : EpochSums
        Of the epoch that is open.
    """

    pace: Pace
    step: int = 0
    epoch: int = 0
    lr_factor: float = 1.0
    retries: int = 0
    seconds: float = 0.0
    running_dice: float | None = None
    best_dice: float | None = None
    best_epoch: int | None = None
    chosen_dice: float | None = None
    chosen_epoch: int | None = None
    sums: EpochSums = field(default_factory=EpochSums)

    @property
    def ended(self) -> bool:
        """Whether no step is left."""
        return self.step >= self.pace.end

    def epoch_is_full(self, iterations: int) -> bool:
        """Whether the open epoch has all its steps, or will get no more."""
        return self.sums.steps > 0 and (self.step >= (self.epoch + 1) * iterations or self.ended)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Progress:
        """Go on from ``dataclasses.asdict``."""
        return cls(**{**values, "pace": Pace(**values["pace"]), "sums": EpochSums(**values["sums"])})

"""What a loop is given: its parts and its limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bts_auto.train.feed import OpenStream
from bts_auto.train.objectives.base import Objective
from bts_auto.train.schedules import Schedule


@dataclass(frozen=True)
class Limits:
    """What ends and saves a training besides its number of steps.

    Attributes
    ----------
    budget : float or None
        Seconds for the whole run, final validation included.
    reserve : callable
        (seconds per patch in evaluation) -> seconds of the budget to be kept for the final validation.
    save_every : float
        Seconds between two saved states.
    most_steps : int or None
        That a budget may be filled with; None: as many as are planned.
    """

    budget: float | None = None
    reserve: Callable[[float], float] = lambda seconds_per_patch: 0.0
    save_every: float = 60.0
    most_steps: int | None = None


@dataclass(frozen=True)
class Parts:
    """What a loop puts together.

    Attributes
    ----------
    objective : callable
        -> Objective with freshly drawn weights on its device; called at the start and to go back after a bad loss.
    batches, held_out : callable
        Training batches and held-out ones (None: nothing is held out).
    schedule : callable
        Fraction done -> factor of the learning rates.
    schedule_per : {"epoch", "step"}
    keep_best : callable
        Writes the network's best weights so far; gets the weights and the epoch.
    judge : callable or None
        Weights -> how good they are on whole volumes, higher is better; None: the last weights are shipped.
    keep_chosen : callable
        Writes the weights that were judged best so far; gets them and the epoch.
    log : callable
        Gets the record and the number of each epoch that is in the journal.
    epoch_ended : callable
        Called now and then when an epoch's line is in the journal; draws it, for example.
    """

    objective: Callable[[], Objective]
    batches: OpenStream
    held_out: OpenStream | None
    schedule: Schedule
    schedule_per: str
    keep_best: Callable[[Mapping[str, Tensor], int], None] = lambda weights, epoch: None
    judge: Callable[[Mapping[str, Tensor]], float] | None = None
    keep_chosen: Callable[[Mapping[str, Tensor], int], None] = lambda weights, epoch: None
    log: Callable[[Mapping[str, Any], int], None] = lambda record, epoch: None
    epoch_ended: Callable[[], object] = lambda: None

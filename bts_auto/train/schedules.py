"""Learning rate schedules: pure functions of the fraction of the training that is done.

A schedule knows neither steps nor epochs nor the clock, so that the same one serves a run of so many epochs, a run
within a time budget and a run that is told to come to its end.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from bts_auto.train.options import ConstantOptions, CosineOptions, OneCycleOptions, PolyOptions, ScheduleOptions

Schedule = Callable[[float], float]
"""Fraction done, 0 (first step) to 1 (after the last) -> factor of the optimiser's learning rate."""


def _with_warm_up(options: ScheduleOptions, after: Schedule) -> Schedule:
    """`after`, squeezed into what a linear warm-up leaves of the training."""

    def factor(fraction: float) -> float:
        fraction = min(max(fraction, 0.0), 1.0)
        if fraction < options.warm_up:
            return options.warm_up_start + (1 - options.warm_up_start) * fraction / options.warm_up
        return after((fraction - options.warm_up) / (1 - options.warm_up))

    return factor


def _half_cosine(start: float, end: float, share: float) -> float:
    """From `start` (share 0) to `end` (share 1) along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def poly(options: PolyOptions) -> Schedule:
    """Polynomial decay to 0."""
    return _with_warm_up(options, lambda fraction: (1 - fraction) ** options.exponent)


def cosine(options: CosineOptions) -> Schedule:
    """Half a cosine down."""
    return _with_warm_up(options, lambda fraction: _half_cosine(1.0, options.final, fraction))


def constant(options: ConstantOptions) -> Schedule:
    """Always 1."""
    return _with_warm_up(options, lambda fraction: 1.0)


def one_cycle(options: OneCycleOptions) -> Schedule:
    """Half a cosine up, half a cosine down."""

    def factor(fraction: float) -> float:
        if fraction < options.rise:
            return _half_cosine(options.start, 1.0, fraction / options.rise)
        return _half_cosine(1.0, options.final, (fraction - options.rise) / (1 - options.rise))

    return _with_warm_up(options, factor)

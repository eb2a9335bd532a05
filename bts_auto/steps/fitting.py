"""Making a plan for the memory that turns out to be there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from bts_auto.errors import PlanError
from bts_auto.events import Observer
from bts_auto.plan.patch import NothingFits
from bts_auto.steps.trials import OutOfMemory

Made = TypeVar("Made")

# What a step has taken is known: the next plan stays a little below that.
_BELOW_MEASURED = 0.98
# The memory model is a tenth off at most: after one step that failed, the memory itself is not what it seemed.
_FIRST, _NEXT = 0.8, 0.5
# No network that is worth training fits less.
_LEAST_GB = 0.1


def fitting(gb: float, make: Callable[[float], Made], observer: Observer) -> Made:
    """What `make` makes of `gb`, or of less memory where real steps do not fit.

    Parameters
    ----------
    gb : float
        Memory to begin with.
    make : callable
        Makes a plan for so many GB and takes its steps; raises :class:`OutOfMemory` where they do not fit.

    Raises
    ------
    PlanError
        When the steps of the smallest plan do not fit either; the last size that was tried is named.
    """
    failure: OutOfMemory | None = None
    tried, shrink = gb, _FIRST
    while True:
        try:
            return make(gb)
        except OutOfMemory as error:
            failure, tried = error, min(gb, error.most_gb)
            if error.share is not None:  # a recipe's step may take more than the plan that is made for so many GB
                gb = min(gb * error.share, tried) * _BELOW_MEASURED
            else:
                gb, shrink = tried * shrink, _NEXT
        except NothingFits:
            if failure is None:
                raise
            raise _nothing_fits(failure, tried) from failure
        if gb < _LEAST_GB:
            raise _nothing_fits(failure, tried) from failure
        observer.warn(f"{failure.where}: a real step does not fit ({failure.what}); planning for {gb:.2g} GB")


def check_peak(name: str, peak_gb: float, room_gb: float, foretold_gb: float) -> None:
    """Raise :class:`OutOfMemory` where a step that was foretold to take so much has taken more than there is."""
    if peak_gb > room_gb:
        what = f"it takes {peak_gb:.2g} GB of {room_gb:.2g} GB"
        share = room_gb / peak_gb
        raise OutOfMemory(what, where=name, most_gb=foretold_gb * share, share=share)


def _nothing_fits(failure: OutOfMemory, tried_gb: float) -> PlanError:
    return PlanError(
        f"no plan fits: also a step of {tried_gb:.2g} GB is too large here ({failure.what})",
        where=failure.where,
        mend="free memory",
    )

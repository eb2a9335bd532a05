"""How fast this machine trains: from trials of single configurations, and from what trainings have told."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bts_auto.events import SILENT, Observer
from bts_auto.steps.trials import Tried

if TYPE_CHECKING:
    from bts_auto.plan.rate import Rate, Rates
    from bts_auto.plan.schema import Plan
    from bts_auto.steps.trials import Trials

_TERA = 1e12
# A training's mean says more than a trial from so many steps on.
_TELLING_STEPS = 20
# A measured step whose operations differ by less than this factor is as good as the step itself ...
_SAME_STEP = 1.05
# ... and by less than this factor good enough to foretell others from.
_NEAR_STEP = 2.0


def as_rate(plan: Plan, name: str, tried: Tried, hardware: str) -> Rate:
    """A trial as a rate from which the time of other configurations is foretold."""
    from bts_auto.plan.compute_model import plan_compute
    from bts_auto.plan.rate import Rate

    configuration = plan.configuration(name)
    accumulated = plan_compute(plan, name).step * configuration.training.accumulation
    return Rate.model_validate(
        {
            "hardware": hardware,
            "precision": tried.precision,
            "network": configuration.network.name,
            "dims": configuration.dims,
            "step_tflop": accumulated / _TERA,
            "step_seconds": tried.step_seconds,
            "source": "trial",
            "others": tried.others,
        }
    )


def measure_rates(
    trials: Trials, plan: Plan, names: Sequence[str], folder: Path, *, observer: Observer = SILENT
) -> Rates:
    """The rates that `folder` remembers, with those of `names` measured where nothing of their size is known."""
    return _measure(trials, plan, names, folder, _NEAR_STEP, "timing a small network", observer)


def check_steps(
    trials: Trials, plan: Plan, names: Sequence[str], folder: Path, *, observer: Observer = SILENT
) -> Rates:
    """Run a real step of each of `names`, but for those that `folder` remembers, and remember their rates there.

    Raises
    ------
    OutOfMemory
        When one of them does not fit.
    """
    return _measure(trials, plan, names, folder, _SAME_STEP, "trying a training step", observer)


def _measure(
    trials: Trials, plan: Plan, names: Sequence[str], folder: Path, near: float, doing: str, observer: Observer
) -> Rates:
    from bts_auto import machine
    from bts_auto.plan.expect import duration
    from bts_auto.plan.rate import Rates

    hardware = machine.hardware(trials.device)
    for name in names:
        rates = Rates.load(folder)
        flop, rate = _step_tflop(plan, name), nearest_rate(plan, name, rates, hardware)
        if flop is None or (rate is not None and not rate.busy and _ratio(rate, flop) < near):
            continue
        about = "" if rate is None else f" (about {duration(flop / rate.tflops)})"
        one = plan.configuration(name)
        patch = "x".join(map(str, one.patch_size))
        sizes = f"patch {patch}, {one.features_per_stage[0]} channels, batch {one.batch_size}"
        observer.note(f"{doing}: {name}, {sizes}{about}")
        found = as_rate(plan, name, trials.run(_in_known_format(plan, name, rate), name, quick=True), hardware)
        rates.add(found).save(folder)
    return Rates.load(folder)


def _step_tflop(plan: Plan, name: str) -> float | None:
    """Operations of an optimiser step in 10^12; None where they cannot be counted."""
    from bts_auto.errors import PlanError
    from bts_auto.plan.compute_model import plan_compute

    try:
        return plan_compute(plan, name).step * plan.configuration(name).training.accumulation / _TERA
    except PlanError:
        return None


def nearest_rate(plan: Plan, name: str, rates: Rates, hardware: str) -> Rate | None:
    """The measured step that is most like a configuration's."""
    configuration, flop = plan.configuration(name), _step_tflop(plan, name)
    return None if flop is None else rates.nearest(hardware, configuration.network.name, configuration.dims, flop)


def _ratio(rate: Rate, step_tflop: float) -> float:
    """How many times larger one of two steps is."""
    return math.exp(abs(math.log(rate.step_tflop / step_tflop)))


def _in_known_format(plan: Plan, name: str, rate: Rate | None) -> Plan:
    """The plan with the number format that was found to be the fastest before, so that it is not sought again."""
    if rate is None or plan.configuration(name).training.precision != "auto":
        return plan
    return plan.replaced(name, "training", {"precision": rate.precision})


def known_step_seconds(plan: Plan, name: str, folder: Path, *, device: str = "auto") -> float | None:
    """Seconds of a configuration's optimiser step where such a step has been measured on this machine."""
    from bts_auto import machine
    from bts_auto.plan.rate import Rates

    rates, flop = Rates.load(folder), _step_tflop(plan, name)
    if not rates.rates or flop is None:
        return None
    rate = nearest_rate(plan, name, rates, machine.hardware(device))
    return flop / rate.tflops if rate is not None and not rate.busy and _ratio(rate, flop) < _SAME_STEP else None


def remember_training(folder: Path, rates_folder: Path, *, device: str = "auto") -> None:
    """Learn the machine's rate from the journal of a trained fold, where it is long enough to tell."""
    from bts_auto import machine
    from bts_auto.errors import PlanError
    from bts_auto.model.fold import TrainedFold
    from bts_auto.plan.rate import Rate, Rates

    lines = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if line.get("kind") == "epoch"]
    ends = [0, *(line["step"] for line in epochs)]
    per_step = [
        line["seconds"] / (end - begin)
        for line, begin, end in zip(epochs, ends, ends[1:], strict=False)
        if end > begin and line["seconds"] > 0
    ]
    if not per_step or ends[-1] < _TELLING_STEPS:
        return
    fold = TrainedFold(folder)
    tried = Tried(statistics.median(per_step), fold.configuration.training.precision, 0)
    try:
        rate = as_rate(fold.plan, fold.configuration_name, tried, machine.hardware(device))
    except PlanError:
        return
    mean = Rate.model_validate(rate.model_dump() | {"source": "training"})
    Rates.load(rates_folder).add(mean).save(rates_folder)

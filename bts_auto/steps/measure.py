"""How fast this machine trains: from trials of single configurations, and from what trainings have told."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bts_auto.errors import PlanError
from bts_auto.events import SILENT, Observer
from bts_auto.plan.expect import duration, nearest_rate, step_operations
from bts_auto.plan.rate import Rate, Rates, Sizes, is_busy
from bts_auto.steps.trials import OutOfMemory, Tried

if TYPE_CHECKING:
    from bts_auto.plan.schema import Plan
    from bts_auto.steps.trials import Trials

_GB = 2**30
# A training's mean says more than a trial from so many steps on.
_TELLING_STEPS = 20
# A measured step whose operations differ by less than this factor takes the same time ...
_SAME_TIME = 1.05
# ... and by less than this factor good enough to foretell others from.
_NEAR_STEP = 2.0
# Rounding of operations that are counted twice for one step.
_SAME_FLOP = 1.001


def as_rate(plan: Plan, name: str, tried: Tried, hardware: str) -> Rate:
    """A trial as a rate from which the time of other configurations is foretold.

    Raises
    ------
    PlanError
        When the operations of its network cannot be counted.
    """
    configuration, tflop = plan.configuration(name), step_operations(plan, name)
    if tflop is None:
        raise PlanError(f"the operations of network '{configuration.network.name}' cannot be counted", where=name)
    return Rate.model_validate(
        {
            "hardware": hardware,
            "precision": tried.precision,
            "network": configuration.network.name,
            "dims": configuration.dims,
            "step_tflop": tflop,
            "step_seconds": tried.step_seconds,
            "source": "trial",
            "others": tried.others,
            "chosen": configuration.training.precision == "auto",
            "sizes": Sizes.of(plan, name),
            "peak_gb": tried.peak_bytes / _GB,
        }
    )


def measure_rates(
    trials: Trials, plan: Plan, names: Sequence[str], folder: Path, *, observer: Observer = SILENT
) -> Rates:
    """The rates that `folder` remembers, with those of `names` measured where nothing of their size is known.

    Raises
    ------
    OutOfMemory
        When one of them does not fit.
    """
    for name in names:
        flop, rate = step_operations(plan, name), nearest_rate(plan, name, Rates.load(folder), trials.hardware)
        if flop is None:
            continue
        if rate is None or _must_be_taken(rate, plan, name, folder, trials) or _ratio(rate, flop) >= _NEAR_STEP:
            _take(trials, plan, name, folder, "timing a small network", observer)
    return Rates.load(folder)


def check_steps(
    trials: Trials,
    plan: Plan,
    names: Sequence[str],
    folder: Path,
    *,
    room_gb: float = math.inf,
    observer: Observer = SILENT,
) -> Rates:
    """Run a real step of each of `names`, and remember their rates and peaks in `folder`.

    The very same step is not repeated where its peak is remembered to fit, or was seen not to fit just now.

    Parameters
    ----------
    room_gb : float
        The most memory that a step may be seen to take.

    Raises
    ------
    OutOfMemory
        When one of them does not fit, or takes more than `room_gb`.
    """
    from bts_auto.steps.fitting import check_peak

    for name in names:
        if step_operations(plan, name) is None:
            continue
        known = _same_step(plan, name, _known(folder, trials), trials.hardware)
        if known is not None and (known.peak_gb is None or (known.peak_gb > room_gb and known not in trials.taken)):
            known = None
        if known is None or _must_be_taken(known, plan, name, folder, trials):
            known = _take(trials, plan, name, folder, "trying a training step", observer)
        check_peak(name, known.peak_gb or 0.0, room_gb, _foretold_gb(plan, name, folder, trials))
    return Rates.load(folder)


def _known(folder: Path, trials: Trials) -> Rates:
    """What `trials` has measured, also where something better is remembered, and what `folder` remembers."""
    return Rates(rates=(*trials.taken, *Rates.load(folder).rates))


def _must_be_taken(rate: Rate, plan: Plan, name: str, folder: Path, trials: Trials) -> bool:
    """Whether a measurement tells too little, and `trials` has not made another one yet.

    That is where other programs disturbed it, or it is of a number format that another plan had named where this one
    wants the best.
    """
    is_open = plan.configuration(name).training.precision == "auto" and _best_format(plan, name, folder, trials) is None
    return is_open or (rate.busy and rate not in trials.taken)


def _take(trials: Trials, plan: Plan, name: str, folder: Path, doing: str, observer: Observer) -> Rate:
    """Run a real step, say so before, and remember what it took."""
    rates, one = Rates.load(folder), plan.configuration(name)
    seconds = foretold_seconds(plan, name, rates, trials.hardware)
    about = "" if seconds is None else f" (about {duration(seconds)})"
    patch = "x".join(map(str, one.patch_size))
    sizes = f"patch {patch}, {one.features_per_stage[0]} channels, batch {one.batch_size}"
    observer.note(f"{doing}: {name}, {sizes}{about}")
    asked = _in_known_format(plan, name, folder, trials)
    try:
        tried = trials.run(asked, name, quick=True)
    except OutOfMemory as error:
        most = _foretold_gb(plan, name, folder, trials)
        raise OutOfMemory(error.what, where=name, mend=error.mend, most_gb=most) from error
    found = as_rate(asked, name, tried, trials.hardware)
    rates.add(found).save(folder)
    trials.taken.append(found)
    return found


def _foretold_gb(plan: Plan, name: str, folder: Path, trials: Trials) -> float:
    """Memory that a step is foretold to take in the number format that is known to be the best."""
    from bts_auto.plan.memory_model import plan_memory

    return plan_memory(_in_known_format(plan, name, folder, trials), name).peak / _GB


def foretold_seconds(
    plan: Plan, name: str, rates: Rates, hardware: str, *, step_tflop: float | None = None, width: int | None = None
) -> float | None:
    """Seconds of a configuration's optimiser step, from the measured one that is most like it; None without any.

    `step_tflop` and `width` stand for a network of another size: see :func:`bts_auto.plan.expect.nearest_rate`.
    """
    rate = nearest_rate(plan, name, rates, hardware, step_tflop=step_tflop, width=width)
    tflop = step_operations(plan, name) if step_tflop is None else step_tflop
    return None if rate is None or tflop is None else tflop / rate.tflops


def _same_step(plan: Plan, name: str, rates: Rates, hardware: str) -> Rate | None:
    """The measurement of this very step, if there is one."""
    one, flop, sizes = plan.configuration(name), step_operations(plan, name), Sizes.of(plan, name)
    if flop is None:
        return None
    measured = rates.of(hardware, one.network.name, one.dims, one.training.precision)
    return next((rate for rate in measured if rate.sizes == sizes and _ratio(rate, flop) < _SAME_FLOP), None)


def _ratio(rate: Rate, step_tflop: float) -> float:
    """How many times larger one of two steps is."""
    return math.exp(abs(math.log(rate.step_tflop / step_tflop)))


def _in_known_format(plan: Plan, name: str, folder: Path, trials: Trials) -> Plan:
    """The plan with the number format that was found to be the fastest before, so that it is not sought again."""
    best = _best_format(plan, name, folder, trials)
    if best is None or plan.configuration(name).training.precision != "auto":
        return plan
    return plan.replaced(name, "training", {"precision": best})


def _best_format(plan: Plan, name: str, folder: Path, trials: Trials) -> str | None:
    """The number format that was found to be the fastest for such a network; None where it was only named."""
    one = plan.configuration(name)
    return _known(folder, trials).best_format(trials.hardware, one.network.name, one.dims)


def known_step_seconds(plan: Plan, name: str, folder: Path, *, device: str = "auto") -> float | None:
    """Seconds of a configuration's optimiser step where such a step has been measured on this machine."""
    from bts_auto import machine

    rates, flop = Rates.load(folder), step_operations(plan, name)
    if not rates.rates or flop is None:
        return None
    rate = nearest_rate(plan, name, rates, machine.hardware(device))
    if rate is None or rate.busy or _ratio(rate, flop) >= _SAME_TIME:
        return None
    same_kind = rate.sizes is None or rate.sizes.has_kind_of(Sizes.of(plan, name))
    return flop / rate.tflops if same_kind else None


def remember_training(
    folder: Path, rates_folder: Path, *, device: str = "auto", chosen: bool = False, observer: Observer = SILENT
) -> None:
    """Learn the machine's rate from the journal of a trained fold, where it is long enough to tell.

    Epochs in which other programs took much of the processors tell nothing of the machine; where there were only such,
    that is remembered with the rate.

    Parameters
    ----------
    chosen : bool
        Whether the number format was found to be the best here; else the plan had named it.
    """
    from bts_auto import machine
    from bts_auto.model.fold import TrainedFold

    told = _seconds_of_steps(folder / "journal.jsonl")
    if told is None:
        return
    seconds, others = told
    fold = TrainedFold(folder)
    tried = Tried(seconds, fold.configuration.training.precision, 0, others)
    try:
        rate = as_rate(fold.plan, fold.configuration_name, tried, machine.hardware(device))
    except PlanError:
        return
    mean = Rate.model_validate(rate.model_dump() | {"source": "training", "chosen": chosen, "peak_gb": None})
    if mean.busy:
        observer.warn(
            f"other programs took up to {others:.0%} of the processors during the training: it took longer than it "
            "would alone, and the times of other plans are not foretold from it where better ones are known"
        )
    try:
        Rates.load(rates_folder).add(mean).save(rates_folder)
    except OSError as error:  # the training is done, and worth more than what it tells of the machine
        observer.warn(f"what a step takes here is not remembered ({error})")


def _seconds_of_steps(journal: Path) -> tuple[float, float] | None:
    """The median seconds of a step, of undisturbed epochs where there are enough, and the largest share that others
    took of the processors in one of them; None where the training was too short to tell."""
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    epochs, step = list[tuple[int, float, float]](), 0
    for line in (line for line in lines if line.get("kind") == "epoch"):
        if line["step"] > step and line["seconds"] > 0:
            epochs.append((line["step"] - step, line["seconds"], line.get("others", 0.0)))
        step = line["step"]
    for looked_at in ([epoch for epoch in epochs if not is_busy(epoch[2])], epochs):
        if sum(steps for steps, _, _ in looked_at) >= _TELLING_STEPS:
            seconds = statistics.median(seconds / steps for steps, seconds, _ in looked_at)
            return seconds, max(others for _, _, others in looked_at)
    return None

"""Trying a planned configuration on this machine, in a process of its own; and what trainings told about its speed."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bts_auto.errors import BtsError
from bts_auto.events import SILENT, Observer

if TYPE_CHECKING:
    from bts_auto.plan.rate import Rate, Rates
    from bts_auto.plan.schema import Plan

_TERA = 1e12
# What a kernel kills a process with when memory is gone.
_KILLED = -9
# A training's mean says more than a trial from so many steps on.
_TELLING_STEPS = 20
# A measured step whose operations differ by less than this factor is as good as the step itself.
_SAME_STEP = 1.05


class OutOfMemory(BtsError):
    """A step does not fit the memory of the device."""


@dataclass(frozen=True)
class Tried:
    """One configuration's real steps: mean seconds, number format, and peak memory above the process's start."""

    step_seconds: float
    precision: str
    peak_bytes: int


def try_steps(
    plan: Plan, name: str, *, device: str = "auto", store: Path | None = None, cases: Sequence[str] = ()
) -> Tried:
    """Run a few real training steps of a configuration.

    Parameters
    ----------
    store : Path, optional
        Preprocessed cases, of which `cases` are drawn and augmented; None: the steps run on noise.

    Raises
    ------
    OutOfMemory
        When the device's memory does not suffice.
    BtsError
        When the steps fail for another reason.
    """
    question = {
        "plan": plan.model_dump(mode="json"),
        "configuration": name,
        "device": device,
        "store": None if store is None else str(store.absolute()),
        "cases": list(cases),
    }
    command = [sys.executable, "-m", "bts_auto.train.trial"]
    done = subprocess.run(command, input=json.dumps(question), capture_output=True, text=True, check=False)
    if done.returncode == _KILLED:
        raise OutOfMemory("the trial was killed for want of memory", where=name)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise BtsError(f"a trial step failed: {reason}", where=name)
    answer = json.loads(done.stdout.splitlines()[-1])
    if "out_of_memory" in answer:
        raise OutOfMemory(answer["out_of_memory"], where=name)
    return Tried(**answer)


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
        }
    )


def measure_rates(
    plan: Plan, names: Sequence[str], folder: Path, *, device: str = "auto", observer: Observer = SILENT
) -> Rates:
    """The rates that `folder` remembers, with those of `names` measured where nothing of their size is known."""
    from bts_auto import machine
    from bts_auto.plan.rate import Rates

    rates, hardware = Rates.load(folder), machine.hardware(device)
    unknown = [name for name in names if _unknown(plan, name, rates, hardware)]
    return check_steps(plan, unknown, folder, device=device, observer=observer) if unknown else rates


def check_steps(
    plan: Plan, names: Sequence[str], folder: Path, *, device: str = "auto", observer: Observer = SILENT
) -> Rates:
    """Run real steps of each of `names` and remember their rates in `folder`.

    Raises
    ------
    OutOfMemory
        When one of them does not fit.
    """
    from bts_auto import machine
    from bts_auto.plan.rate import Rates

    hardware = machine.hardware(device)
    for name in observer.track(names, "Timing steps"):
        tried = try_steps(plan, name, device=device)
        Rates.load(folder).add(as_rate(plan, name, tried, hardware)).save(folder)
    return Rates.load(folder)


def _unknown(plan: Plan, name: str, rates: Rates, hardware: str) -> bool:
    from bts_auto.errors import PlanError
    from bts_auto.plan.compute_model import plan_compute

    configuration = plan.configuration(name)
    try:
        step_tflop = plan_compute(plan, name).step / _TERA
    except PlanError:
        return False
    near = rates.nearest(hardware, configuration.network.name, configuration.dims, step_tflop)
    return near is None or abs(math.log(near.step_tflop / step_tflop)) > math.log(2)


def known_step_seconds(plan: Plan, name: str, folder: Path, *, device: str = "auto") -> float | None:
    """Seconds of a configuration's optimiser step where such a step has been measured on this machine."""
    from bts_auto import machine
    from bts_auto.errors import PlanError
    from bts_auto.plan.compute_model import plan_compute
    from bts_auto.plan.rate import Rates

    configuration = plan.configuration(name)
    try:
        step_tflop = plan_compute(plan, name).step * configuration.training.accumulation / _TERA
    except PlanError:
        return None
    rates = Rates.load(folder)
    if not rates.rates:
        return None
    rate = rates.nearest(machine.hardware(device), configuration.network.name, configuration.dims, step_tflop)
    same = rate is not None and abs(math.log(rate.step_tflop / step_tflop)) < math.log(_SAME_STEP)
    return step_tflop / rate.tflops if rate is not None and same else None


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

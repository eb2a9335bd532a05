"""What a plan will take: the peak of memory, and where the machine's rate is known the time."""

from __future__ import annotations

import contextlib

from bts_auto.errors import PlanError
from bts_auto.plan.compute_model import plan_compute
from bts_auto.plan.memory_model import RUNTIME_ON_CPU, Format, plan_memory
from bts_auto.plan.rate import Rate, Rates, Sizes
from bts_auto.plan.schema import Expected, Plan

_GB, _TERA = 2**30, 1e12
# Nobody waits so long without having meant to.
_LONG_S = 3 * 86400.0
_UNITS = ((86400.0, "days"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def duration(seconds: float) -> str:
    """``0.31 s``, ``14 min``, ``5.2 h``, ``138 days``: two digits, or whole numbers from 10 on."""
    size, unit = next(((size, unit) for size, unit in _UNITS if seconds >= 1.5 * size), _UNITS[-1])
    value = seconds / size
    return f"{value:.0f} {unit}" if value >= 10 else f"{value:.2g} {unit}"


def step_operations(plan: Plan, name: str) -> float | None:
    """Operations of an optimiser step in 10^12, all batches that it accumulates; None where they cannot be counted."""
    try:
        return plan_compute(plan, name).step * plan.configuration(name).training.accumulation / _TERA
    except PlanError:
        return None


def nearest_rate(
    plan: Plan, name: str, rates: Rates, hardware: str, *, step_tflop: float | None = None, width: int | None = None
) -> Rate | None:
    """The measured step that is most like a configuration's, in the number format that its plan wants.

    Parameters
    ----------
    step_tflop : float, optional
        Operations in 10^12, where the step of a network of another size is meant.
    width : int, optional
        Channels of the first stage, where those of another are meant.
    """
    one, sizes = plan.configuration(name), Sizes.of(plan, name)
    tflop = step_operations(plan, name) if step_tflop is None else step_tflop
    if tflop is None:
        return None
    if width is not None:
        sizes = sizes.model_copy(update={"features": (width,)})
    return rates.nearest(hardware, one.network.name, one.dims, tflop, one.training.precision, sizes)


def expect(
    plan: Plan, name: str, rate: Rate | None = None, *, on_cpu: bool = False, precision: Format | None = None
) -> Expected:
    """What a configuration will take, on a GPU or `on_cpu`; times are foretold from `rate`.

    Where the plan leaves the number format open it is that of `rate`, without one `precision`.

    Raises
    ------
    PlanError
        When the network is none of those that can be counted.
    """
    configuration = plan.configuration(name)
    training, compute = configuration.training, plan_compute(plan, name)
    precision = precision if rate is None else rate.precision
    chosen = precision if training.precision == "auto" else None
    memory = (plan_memory(plan, name, precision=chosen).peak + (RUNTIME_ON_CPU if on_cpu else 0)) / _GB
    step_tflop = compute.step / _TERA
    if rate is None:
        return Expected(memory_gb=memory, step_tflop=step_tflop, precision=precision)
    step = training.accumulation * step_tflop / rate.tflops
    held_out = training.validation_iterations * configuration.batch_size * compute.inference / _TERA / rate.tflops
    epoch = training.iterations * step + held_out
    return Expected(
        memory_gb=memory,
        step_tflop=step_tflop,
        step_seconds=step,
        epoch_seconds=epoch,
        hardware=rate.hardware,
        precision=rate.precision,
    )


def with_expected(
    plan: Plan, rates: Rates, hardware: str, *, on_cpu: bool = False, precision: Format | None = None
) -> Plan:
    """The plan with what each of its configurations will take; networks that cannot be counted are left out."""
    found = {}
    for name in plan.configurations:
        with contextlib.suppress(PlanError):
            rate = nearest_rate(plan, name, rates, hardware)
            found[name] = expect(plan, name, rate, on_cpu=on_cpu, precision=precision)
    return plan.model_copy(update={"expected": found})


def in_words(plan: Plan, name: str) -> str | None:
    """What a configuration will take, for a person; None where that is not known."""
    expected = plan.expected.get(name)
    if expected is None:
        return None
    words = f"expected: {expected.memory_gb:.2g} GB at the peak, {expected.step_tflop:.2g} TFLOP a step"
    if expected.step_seconds is None or expected.epoch_seconds is None:
        return words
    epochs = plan.configuration(name).training.epochs
    return (
        f"{words}, {duration(expected.step_seconds)} a step, {duration(expected.epoch_seconds)} an epoch, "
        f"{duration(epochs * expected.epoch_seconds)} for {epochs} epochs"
    )


def too_long(seconds: float) -> bool:
    """Whether a training lasts longer than anybody waits without having meant to."""
    return seconds > _LONG_S


def advice(plan: Plan) -> str | None:
    """What to do where a training would last for days; None where none does, or a time budget was planned for."""
    if plan.budget_seconds is not None:
        return None
    seconds = {
        name: plan.configuration(name).training.epochs * expected.epoch_seconds
        for name, expected in plan.expected.items()
        if expected.epoch_seconds is not None
    }
    name = max(seconds, key=lambda name: seconds[name], default=None)
    if name is None or not too_long(seconds[name]):
        return None
    return (
        f"a fold of {name} would train for {duration(seconds[name])} on this machine; "
        "bts_plan_and_preprocess --budget 12h plans what is learnt best in a time that you name"
    )

"""Timing steps, and remembering what they took."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from bts_auto import machine
from bts_auto.plan.memory_model import Format, plan_memory
from bts_auto.plan.rate import Rate, Rates
from bts_auto.plan.schema import Plan
from bts_auto.steps.measure import check_steps, known_step_seconds, measure_rates
from bts_auto.steps.trials import OutOfMemory, Tried
from bts_auto.train.trial import Timing, time_steps
from tests.plan.cases import plan


class Recorder:
    """Takes steps on a clock of its own; those of `slow` take ten times as long as the others."""

    def __init__(self, seconds: float, slow: int = 1) -> None:
        self.seconds, self.slow, self.now = seconds, slow, 0.0
        self.batches: list[int] = []

    def run(self, batches, at) -> None:
        self.now += self.seconds * (10 if len(self.batches) < self.slow else 1)
        self.batches.append(len(batches))

    def timed(self, **how: float) -> tuple[float, float]:
        return time_steps(
            self, itertools.repeat({}), 2, torch.device("cpu"), Timing(**how), clock=lambda: self.now  # type: ignore[arg-type]
        )  # fmt: skip


@pytest.mark.parametrize("warm_up", [1, 3])
def test_the_first_steps_are_not_counted(warm_up: int):
    stepper = Recorder(1.0, slow=warm_up)
    assert stepper.timed(warm_up=warm_up) == (10.0, 1.0)
    assert stepper.batches == [2] * (warm_up + 6)


def test_slow_steps_are_timed_once():
    stepper = Recorder(100.0)
    assert stepper.timed() == (1000.0, 100.0)
    assert len(stepper.batches) == 2


def test_a_slow_first_step_may_be_enough():
    stepper = Recorder(100.0)
    assert stepper.timed(one_is_enough=5.0) == (1000.0, 1000.0)
    assert len(stepper.batches) == 1


class Steps:
    """Stands for the process of trials: each step takes a second; remembers the number formats it was asked for."""

    hardware = "a machine"

    def __init__(self, others: float = 0.0, peak_gb: float = 0.1, precision: Format = "bf16") -> None:
        self.others, self.peak_gb, self.precision = others, peak_gb, precision
        self.formats, self.taken = list[str](), list[Rate]()

    def run(self, made: Plan, name: str, **options: object) -> Tried:
        self.formats.append(made.configuration(name).training.precision)
        return Tried(1.0, self.precision, int(self.peak_gb * 2**30), self.others)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setattr(machine, "hardware", lambda device="auto": "a machine")
    return plan((64, 64, 64), gpu_memory_gb=1)


def test_a_step_is_taken_once(made: Plan, tmp_path: Path):
    steps = Steps()
    for _ in range(2):
        check_steps(steps, made, ["2d", "3d_fullres"], tmp_path)  # type: ignore[arg-type]
    assert len(steps.formats) == 2
    assert known_step_seconds(made, "3d_fullres", tmp_path) == pytest.approx(1.0)


def test_a_known_number_format_is_not_sought_again(made: Plan, tmp_path: Path):
    steps, larger = Steps(), made.replaced("3d_fullres", "training", {"accumulation": 4})
    measure_rates(steps, made, ["3d_fullres"], tmp_path)  # type: ignore[arg-type]
    measure_rates(steps, larger, ["3d_fullres"], tmp_path)  # type: ignore[arg-type]
    assert steps.formats == ["auto", "bf16"]


def test_a_number_format_that_a_plan_named_is_not_taken_for_the_best(made: Plan, tmp_path: Path):
    steps, named = Steps(precision="fp32"), made.replaced("3d_fullres", "training", {"precision": "fp32"})
    check_steps(steps, named, ["3d_fullres"], tmp_path)  # type: ignore[arg-type]
    steps.precision = "bf16"
    for _ in range(2):
        check_steps(steps, made, ["3d_fullres"], tmp_path)  # type: ignore[arg-type]
    assert steps.formats == ["fp32", "auto"]
    assert [(rate.precision, rate.chosen) for rate in Rates.load(tmp_path).rates] == [("bf16", True), ("fp32", False)]


def test_a_step_on_a_busy_machine_is_taken_again(made: Plan, tmp_path: Path):
    busy, calm = Steps(others=0.5), Steps()
    check_steps(busy, made, ["3d_fullres"], tmp_path)  # type: ignore[arg-type]
    assert known_step_seconds(made, "3d_fullres", tmp_path) is None
    check_steps(calm, made, ["3d_fullres"], tmp_path)  # type: ignore[arg-type]
    assert len(calm.formats) == 1
    assert [rate.busy for rate in Rates.load(tmp_path).rates] == [False]


def test_a_step_of_another_kind_is_taken_though_its_operations_are_known(made: Plan, tmp_path: Path):
    steps, other = Steps(), made.replaced("3d_fullres", "training", {"optimizer": {"name": "adam"}})
    check_steps(steps, made, ["3d_fullres"], tmp_path)  # type: ignore[arg-type]
    assert known_step_seconds(other, "3d_fullres", tmp_path) is None
    check_steps(steps, other, ["3d_fullres"], tmp_path)  # type: ignore[arg-type]
    assert len(steps.formats) == 2


@pytest.mark.parametrize(("room", "trials"), [(3.0, 0), (1.0, 1)])
def test_a_step_is_taken_again_where_its_peak_did_not_fit_before(made: Plan, tmp_path: Path, room: float, trials: int):
    check_steps(Steps(peak_gb=2.0), made, ["3d_fullres"], tmp_path)  # type: ignore[arg-type]
    check_steps(steps := Steps(peak_gb=0.5), made, ["3d_fullres"], tmp_path, room_gb=room)  # type: ignore[arg-type]
    assert len(steps.formats) == trials


def test_a_step_that_was_just_seen_not_to_fit_is_not_taken_again(made: Plan, tmp_path: Path):
    steps = Steps(peak_gb=2.0)
    for _ in range(2):
        with pytest.raises(OutOfMemory, match="takes 2 GB of 1 GB"):
            check_steps(steps, made, ["3d_fullres"], tmp_path, room_gb=1.0)  # type: ignore[arg-type]
    assert len(steps.formats) == 1


def test_a_step_may_take_no_more_than_there_is(made: Plan, tmp_path: Path):
    with pytest.raises(OutOfMemory, match="takes 2 GB of 1 GB") as raised:
        check_steps(Steps(peak_gb=2.0), made, ["3d_fullres"], tmp_path, room_gb=1.0)  # type: ignore[arg-type]
    foretold = plan_memory(made, "3d_fullres", precision="bf16").peak / 2**30
    assert raised.value.share == pytest.approx(0.5)
    assert raised.value.most_gb == pytest.approx(foretold / 2)


def test_the_time_of_a_number_format_is_not_that_of_another(made: Plan, tmp_path: Path):
    check_steps(Steps(), made, ["3d_fullres"], tmp_path)  # type: ignore[arg-type]
    named = made.replaced("3d_fullres", "training", {"precision": "fp32"})
    assert known_step_seconds(made, "3d_fullres", tmp_path) == pytest.approx(1.0)
    assert known_step_seconds(named, "3d_fullres", tmp_path) is None


def test_a_busy_machine_is_not_measured_twice_for_one_plan(made: Plan, tmp_path: Path):
    busy = Steps(others=0.5)
    for _ in range(2):
        measure_rates(busy, made, ["3d_fullres"], tmp_path)  # type: ignore[arg-type]
        check_steps(busy, made, ["3d_fullres"], tmp_path)  # type: ignore[arg-type]
    assert len(busy.formats) == 1

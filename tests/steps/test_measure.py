"""Real steps that are thrown away."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys

import pytest
import torch

from bts_auto.steps import measure
from bts_auto.steps.measure import OutOfMemory, as_rate, try_steps
from bts_auto.train.trial import time_steps
from tests.plan.cases import plan


class Recorder:
    """Counts steps and the batches of each."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def run(self, batches, at) -> None:
        self.batches.append(len(batches))


def test_the_first_step_is_not_counted():
    stepper, ticks = Recorder(), itertools.count()
    first, seconds = time_steps(stepper, itertools.repeat({}), 2, torch.device("cpu"), clock=lambda: next(ticks))  # type: ignore[arg-type]
    assert set(stepper.batches) == {2}
    assert first + seconds * (len(stepper.batches) - 1) == next(ticks) - 1


def test_slow_steps_are_timed_once():
    stepper, ticks = Recorder(), itertools.count(0, 100)
    time_steps(stepper, itertools.repeat({}), 1, torch.device("cpu"), clock=lambda: next(ticks))  # type: ignore[arg-type]
    assert len(stepper.batches) == 2


def test_a_trial_measures_time_and_memory():
    made = plan((16, 16, 16), gpu_memory_gb=1)
    tried = try_steps(made, "3d_fullres", device="cpu")
    assert tried.step_seconds > 0
    assert tried.peak_bytes > 0
    assert as_rate(made, "3d_fullres", tried, "here").tflops > 0


def answers(monkeypatch: pytest.MonkeyPatch, status: int, out: str = "", err: str = "") -> None:
    done = subprocess.CompletedProcess([sys.executable], status, out, err)
    monkeypatch.setattr(measure.subprocess, "run", lambda *arguments, **options: done)


def test_a_killed_trial_is_out_of_memory(monkeypatch: pytest.MonkeyPatch):
    answers(monkeypatch, -9)
    with pytest.raises(OutOfMemory):
        try_steps(plan((16, 16, 16), gpu_memory_gb=1), "3d_fullres")


def test_a_refused_allocation_is_out_of_memory(monkeypatch: pytest.MonkeyPatch):
    answers(monkeypatch, 0, json.dumps({"out_of_memory": "can't allocate memory"}))
    with pytest.raises(OutOfMemory, match="allocate"):
        try_steps(plan((16, 16, 16), gpu_memory_gb=1), "3d_fullres")


def test_any_other_failure_is_named(monkeypatch: pytest.MonkeyPatch):
    answers(monkeypatch, 1, err="Traceback\nRuntimeError: no kernel\n")
    with pytest.raises(measure.BtsError, match="no kernel"):
        try_steps(plan((16, 16, 16), gpu_memory_gb=1), "3d_fullres")

"""The process that takes real steps, which are thrown away."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bts_auto.errors import BtsError
from bts_auto.steps import trials
from bts_auto.steps.measure import as_rate
from bts_auto.steps.trials import OutOfMemory, Trials
from bts_auto.train.trial import is_out_of_memory
from tests.plan.cases import plan


def test_one_process_measures_several_networks():
    made = plan((16, 16, 16), gpu_memory_gb=1)
    with Trials("cpu") as here:
        for name in ("2d", "3d_fullres"):
            tried = here.run(made, name, quick=True)
            assert tried.peak_bytes > 0
            assert 0 <= tried.others <= 1
            assert as_rate(made, name, tried, "here").tflops > 0


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Lets the process be a program of the test's."""

    def make(program: str) -> Trials:
        path = tmp_path / "python"
        path.write_text(f"#!{sys.executable}\nimport json, os, sys\n{program}\n")
        path.chmod(0o755)
        monkeypatch.setattr(trials.sys, "executable", str(path))
        return Trials()

    return make


def test_a_killed_process_is_out_of_memory(made):
    with made("sys.stdin.readline(); os.kill(os.getpid(), 9)") as here, pytest.raises(OutOfMemory):
        here.run(plan((16, 16, 16), gpu_memory_gb=1), "3d_fullres")


def test_the_next_question_starts_another_process(made, tmp_path: Path):
    answer = '{"step_seconds": 1.0, "precision": "fp32", "peak_bytes": 1}'
    mark = tmp_path / "died"
    die = f"open({str(mark)!r}, 'w'), os.kill(os.getpid(), 9)"
    program = f"sys.stdin.readline(); os.path.exists({str(mark)!r}) or ({die})"
    with made(f"{program}\nprint({answer!r}, flush=True); sys.stdin.readline()") as here:
        with pytest.raises(OutOfMemory):
            here.run(plan((16, 16, 16), gpu_memory_gb=1), "3d_fullres")
        assert here.run(plan((16, 16, 16), gpu_memory_gb=1), "3d_fullres").step_seconds == 1.0


def test_a_refused_allocation_is_out_of_memory(made):
    answer = '{"out_of_memory": "cannot allocate memory"}'
    with made(f"sys.stdin.readline(); print({answer!r})") as here, pytest.raises(OutOfMemory, match="allocate"):
        here.run(plan((16, 16, 16), gpu_memory_gb=1), "3d_fullres")


def test_any_other_failure_is_named(made):
    program = "sys.stdin.readline(); raise RuntimeError('no kernel')"
    with made(program) as here, pytest.raises(BtsError, match="no kernel"):
        here.run(plan((16, 16, 16), gpu_memory_gb=1), "3d_fullres")


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronous"), True),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            True,
        ),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
    ],
)
def test_what_torch_says_without_memory(error: Exception, memory: bool):
    assert is_out_of_memory(error) is memory


@pytest.mark.parametrize(("on_gpu", "driver", "words"), [("true", None, "does not name"), ("false", "A", "cannot use")])
def test_steps_of_another_device_than_the_drivers_are_refused(made, monkeypatch, on_gpu: str, driver, words: str):
    monkeypatch.setattr(trials.machine, "gpu", lambda device: driver)
    answer = f'{{"step_seconds": 1.0, "precision": "fp32", "peak_bytes": 1, "on_gpu": {on_gpu}}}'
    with made(f"sys.stdin.readline(); print({answer!r})") as here, pytest.raises(BtsError, match=words):
        here.run(plan((16, 16, 16), gpu_memory_gb=1), "3d_fullres")

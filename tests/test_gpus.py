"""The GPUs that torch would see, by their driver's word."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from bts_auto import gpus
from bts_auto.gpus import gpu, visible_gpus

SMALL, LARGE = "GPU-11aa, 8192, Small", "GPU-22bb, 24576, Large, new"


@pytest.fixture(autouse=True)
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that names a small GPU before a large one, and a torch for GPUs."""
    fake = tmp_path / "nvidia-smi"
    fake.write_text(f"#!/bin/sh\necho '{SMALL}'\necho '{LARGE}'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(gpus, "_torch_has_cuda", lambda: True)


def test_without_the_driver_there_is_no_gpu(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert visible_gpus() == []


def test_a_device_is_one_gpu():
    assert [(one.name, one.memory_gb) for one in visible_gpus()] == [("Large, new", 24.0), ("Small", 8.0)]
    found = [gpu(device) for device in ("auto", "cuda", "cuda:1", "cuda:2", "cpu", "mps")]
    assert [one and one.memory_gb for one in found] == [24.0, 24.0, 8.0, None, None, None]


def test_cuda_may_count_as_the_driver_does(monkeypatch):
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert [one.name for one in visible_gpus()] == ["Small", "Large, new"]


@pytest.mark.parametrize(
    ("visible", "names"),
    [("", []), ("1", ["Small"]), ("GPU-11", ["Small"]), ("1,0", ["Small", "Large, new"]), ("1,-1,0", ["Small"])],
)
def test_hidden_gpus_are_not_there(monkeypatch, visible: str, names: list[str]):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [one.name for one in visible_gpus()] == names


def test_a_torch_for_processors_sees_no_gpu(monkeypatch, tmp_path: Path):
    monkeypatch.undo()
    for built_for, has_cuda in (("None", False), ("'12.8'", True)):
        (tmp_path / "version.py").write_text(f"debug = False\ncuda: Optional[str] = {built_for}\nhip = None\n")
        spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
        monkeypatch.setattr(gpus.importlib.util, "find_spec", lambda name, spec=spec: spec)
        assert gpus._torch_has_cuda() is has_cuda
        monkeypatch.undo()


def test_memory_that_the_driver_does_not_tell(monkeypatch, tmp_path: Path):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU-33cc, [N/A], Shared'\n")
    assert [(one.name, one.memory_gb) for one in visible_gpus()] == [("Shared", None)]

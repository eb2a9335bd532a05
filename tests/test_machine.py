"""What the machine has."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from bts_auto import control_groups, machine
from bts_auto.control_groups import Quota
from bts_auto.gpus import Gpu


def test_cores_are_within_the_processors_there_are():
    assert 1 <= machine.cores() <= (os.cpu_count() or 1)


def test_free_memory_is_within_the_memory_there_is():
    assert 0 < machine.free_memory() <= psutil.virtual_memory().total


def test_memory_is_free_within_the_limits_of_containers(monkeypatch):
    monkeypatch.setattr(control_groups, "free_memory", lambda: 7000)
    assert machine.free_memory() == 7000


def test_a_part_of_a_core_is_one_core(monkeypatch):
    monkeypatch.setattr(control_groups, "cpu_quota", lambda: Quota(0.5, Path()))
    assert machine.cores() == 1


def taken(monkeypatch, path: Path, spent: dict[int, tuple[int, int]], allowed: set[int]) -> float:
    """What others took while each processor was busy and idle for so many seconds, and this process did nothing."""

    def write(seconds: dict[int, tuple[int, int]]) -> None:
        ticks = os.sysconf("SC_CLK_TCK")
        lines = [f"cpu{n} {busy * ticks} 0 0 {idle * ticks} 0 0 0 0 0 0\n" for n, (busy, idle) in seconds.items()]
        total = [sum(one[part] for one in seconds.values()) * ticks for part in (0, 1)]
        path.write_text(f"cpu {total[0]} 0 0 {total[1]} 0 0 0 0 0 0\n{''.join(lines)}intr 1 2\n")

    monkeypatch.setattr(machine, "_STAT", path)
    monkeypatch.setattr(machine, "_allowed", lambda: allowed)
    write(dict.fromkeys(spent, (0, 0)))
    watch = machine.ProcessorWatch()
    write(spent)
    return watch.taken_by_others()


def test_only_the_processors_that_may_be_used_count(monkeypatch, tmp_path: Path):
    full, empty = (1000, 0), (0, 1000)
    assert taken(monkeypatch, tmp_path / "stat", {0: empty, 1: full, 2: full}, {0}) == 0
    assert taken(monkeypatch, tmp_path / "stat", {0: full, 1: empty, 2: empty}, {0}) == pytest.approx(1, abs=0.01)


def test_nobody_waits_while_processors_are_left(monkeypatch, tmp_path: Path):
    assert taken(monkeypatch, tmp_path / "stat", {0: (1000, 0), 1: (0, 1000)}, {0, 1}) == 0


@pytest.mark.parametrize(("used", "share"), [(0.2, 0.0), (2.0, 1.0)])
def test_others_may_use_up_the_quota_of_a_container(monkeypatch, tmp_path: Path, used: float, share: float):
    clock = iter((0.0, 1000.0))
    seconds = iter((0.0, used * 1000))
    fake = SimpleNamespace(monotonic=lambda: next(clock), process_time=lambda: 0.0)
    monkeypatch.setattr(machine, "time", fake)
    monkeypatch.setattr(Quota, "used_seconds", lambda self: next(seconds))
    monkeypatch.setattr(control_groups, "cpu_quota", lambda: Quota(2.0, tmp_path))
    idle = dict.fromkeys(range(8), (0, 1000))
    assert taken(monkeypatch, tmp_path / "stat", idle, set(idle)) == pytest.approx(share, abs=0.01)


def test_hardware_is_the_gpu_that_is_meant(monkeypatch):
    monkeypatch.setattr(machine, "gpu", lambda device: {"auto": Gpu("A", 24.0), "cuda:1": Gpu("B", 8.0)}.get(device))
    assert [machine.hardware(device) for device in ("auto", "cuda:1")] == ["A", "B"]
    assert [machine.gpu_memory_gb(device) for device in ("auto", "cuda:1", "cpu")] == [24.0, 8.0, None]
    assert machine.hardware("cpu").endswith("cores")
    assert machine.hardware("cuda:2").startswith("GPU of")


def test_a_processor_without_a_name_goes_by_its_numbers(monkeypatch, tmp_path: Path):
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n\nprocessor\t: 1\nCPU part\t: 0xd4f\n")
    monkeypatch.setattr(machine, "_CPUINFO", path)
    assert " 0x41 0xd0c, " in machine.hardware("cpu")

"""What the machine has."""

from __future__ import annotations

import os

import psutil
import pytest

from bts_auto import machine


def test_cores_are_within_the_processors_there_are():
    assert 1 <= machine.cores() <= (os.cpu_count() or 1)


def test_free_memory_is_within_the_memory_there_is():
    assert 0 < machine.free_memory() <= psutil.virtual_memory().total


@pytest.mark.parametrize(("limit", "free"), [("7000", 7000 - (6000 - 4500)), ("max", None)])
def test_files_that_a_container_has_read_are_no_hindrance(monkeypatch, tmp_path, limit, free):
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text("6000\n")
    (tmp_path / "memory.stat").write_text("anon 1500\nfile 4500\ninactive_file 4000\nactive_file 500\n")
    outside = machine.free_memory()
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    assert machine.free_memory() == (free or pytest.approx(outside, rel=0.1))


def test_without_the_driver_there_is_no_gpu(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert machine.gpu_memory_gb() is None


def test_the_largest_gpu_counts(monkeypatch, tmp_path):
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\necho 8192\necho 24576\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert machine.gpu_memory_gb() == 24.0

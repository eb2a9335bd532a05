"""What the machine has."""

from __future__ import annotations

import os

import psutil

from bts_auto import machine


def test_cores_are_within_the_processors_there_are():
    assert 1 <= machine.cores() <= (os.cpu_count() or 1)


def test_free_memory_is_within_the_memory_there_is():
    assert 0 < machine.free_memory() <= psutil.virtual_memory().total


def test_without_the_driver_there_is_no_gpu(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert machine.gpu_memory_gb() is None


def test_the_largest_gpu_counts(monkeypatch, tmp_path):
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\necho 8192\necho 24576\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert machine.gpu_memory_gb() == 24.0

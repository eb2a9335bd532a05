"""What this machine has: cores, free memory, GPU memory. Reads the limits of containers, imports nothing heavy."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")
_GIB = 1 << 30


def cores() -> int:
    """Processors that this process may use (affinity and container quota counted)."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (_CGROUP / "cpu.max").read_text().split()
        if quota != "max":
            count = min(count, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return count


def free_memory() -> int:
    """Bytes that can be taken without swapping, within the container's limit."""
    found = []
    try:
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):
        pass
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        if limit != "max":
            found.append(int(limit) - int((_CGROUP / "memory.current").read_text()))
    except (OSError, ValueError):
        pass
    return max(0, min(found)) if found else 4 * _GIB


def gpu_memory_gb() -> float | None:
    """Memory of the largest NVIDIA GPU in GB (1024^3 bytes), None without one; asks the driver, not torch."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
        return max(float(line) for line in answer.split()) / 1024
    except (OSError, ValueError, subprocess.SubprocessError):
        return None

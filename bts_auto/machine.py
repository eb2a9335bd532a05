"""What this machine has: cores, free memory, GPU memory. Reads the limits of containers, imports nothing heavy."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import shutil
import subprocess
import time
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")
_STAT = Path("/proc/stat")
# Where processors idle for more than this share of the time, nobody had to wait for them.
_IDLE = 0.1
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
    with contextlib.suppress(OSError, ValueError):
        found.append(int((_CGROUP / "memory.max").read_text()) - _held_in_container())
    return max(0, min(found)) if found else 4 * _GIB


def _held_in_container() -> int:
    """Bytes that the container's processes hold. Files that were read count as used there, until the room is wanted."""
    used = int((_CGROUP / "memory.current").read_text())
    with contextlib.suppress(OSError, ValueError):
        counts = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        used -= int(counts.get("active_file", 0)) + int(counts.get("inactive_file", 0))
    return used


class ProcessorWatch:
    """How much of the processors' time others take from this process, from its making on."""

    def __init__(self) -> None:
        self._begin = _processor_seconds()

    def taken_by_others(self) -> float:
        """Share in [0, 1]; 0 where processors were left over, and where the system does not tell."""
        own, busy, idle = (now - then for now, then in zip(_processor_seconds(), self._begin, strict=True))
        total = busy + idle
        return max(0.0, busy - own) / total if total > 0 and idle < _IDLE * total else 0.0


def _processor_seconds() -> tuple[float, float, float]:
    """Seconds that this process has computed, that all processors were busy and that they were idle."""
    try:
        fields = [int(value) for value in _STAT.read_text().splitlines()[0].split()[1:9]]
    except (OSError, ValueError, IndexError):
        return time.process_time(), 0.0, 0.0
    user, nice, system, idle, waiting, *rest = (value / os.sysconf("SC_CLK_TCK") for value in fields)
    return time.process_time(), user + nice + system + sum(rest), idle + waiting


def _ask_gpus(field: str) -> list[str]:
    """One line of the driver's answer for each NVIDIA GPU; none without one."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.splitlines() if line.strip()]


def gpu_memory_gb() -> float | None:
    """Memory of the largest NVIDIA GPU in GB (1024^3 bytes), None without one; asks the driver, not torch."""
    try:
        return max(float(line) for line in _ask_gpus("memory.total")) / 1024
    except ValueError:
        return None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine() or "CPU"
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine() or "CPU")


def hardware(device: str = "auto") -> str:
    """What `device` (auto, cpu, cuda, cuda:1, mps) is on this machine, so that its speed can be remembered."""
    kind, _, number = device.partition(":")
    names = _ask_gpus("name") if kind in ("auto", "cuda") else []
    if names:
        return names[min(int(number or 0), len(names) - 1)]
    if kind == "mps":
        return f"GPU of {platform.machine()}"
    return f"{_cpu_name()}, {cores()} cores"


# Parameters of glibc's mallopt (malloc.h), and the largest value they take.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST = 2**31 - 1


def keep_freed_memory() -> None:
    """Let this process use freed memory again instead of returning it to the system at once.

    glibc gives every large block back when it is freed, and the kernel clears it anew page by page when the next tensor
    of that size is made. A training step on a CPU spends a fifth of its time on that. For programs that compute with
    torch on a CPU; without effect where the C library is another.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        library.mallopt(_M_TRIM_THRESHOLD, _LARGEST)


def return_freed_memory() -> None:
    """Give back to the system what :func:`keep_freed_memory` has kept so far."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)

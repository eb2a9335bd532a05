"""What this machine has: cores, free memory, GPU memory. Reads the limits of containers, imports nothing heavy."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import time
from pathlib import Path
from typing import NamedTuple

from bts_auto import control_groups
from bts_auto.gpus import gpu

_MEMINFO = Path("/proc/meminfo")
_CPUINFO = Path("/proc/cpuinfo")
_STAT = Path("/proc/stat")
# Where processors idle for less than this share of the time, somebody may have had to wait for them.
_IDLE = 0.1
_GIB = 1 << 30


def _allowed() -> set[int]:
    """Numbers of the processors that this process may run on."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def cores() -> int:
    """Processors that this process may use (affinity and container quota counted)."""
    count, quota = len(_allowed()), control_groups.cpu_quota()
    return count if quota is None else min(count, max(1, int(quota.cores)))


def free_memory() -> int:
    """Bytes that can be taken without swapping, within the limits of containers and batch systems."""
    found = []
    try:
        lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):
        pass
    allowed = control_groups.free_memory()
    if allowed is not None:
        found.append(allowed)
    return min(found) if found else 4 * _GIB


class _Seconds(NamedTuple):
    """Counters of time: of this process with its children, of the processors that it may run on, of its container, and
    the clock's."""

    own: float
    busy: float
    idle: float
    group: float
    clock: float


class ProcessorWatch:
    """How much of the processors' time others take from this process, from its making on.

    Only the processors that the process may run on are looked at. Under a quota of processor time, what counts is the
    quota: others take of it by using it up within the container, or by keeping all processors busy.
    """

    def __init__(self) -> None:
        self._quota = control_groups.cpu_quota()
        if self._quota is not None and self._quota.cores >= len(_allowed()):
            self._quota = None
        self._begin = self._now()

    def taken_by_others(self) -> float:
        """Share in [0, 1]; 0 where processors were left over, and where the system does not tell."""
        spent = _Seconds(*(now - then for now, then in zip(self._now(), self._begin, strict=True)))
        room = spent.busy + spent.idle
        nobody_waits = spent.idle >= _IDLE * room
        if self._quota is None:
            taken = 0.0 if nobody_waits else spent.busy - spent.own
        else:
            room = self._quota.cores * spent.clock
            within = spent.group - spent.own if spent.group > (1 - _IDLE) * room else 0.0
            taken = within if nobody_waits else room - spent.own
        return min(1.0, max(0.0, taken / room)) if room > 0 else 0.0

    def _now(self) -> _Seconds:
        children = os.times()
        own = time.process_time() + children.children_user + children.children_system
        group = None if self._quota is None else self._quota.used_seconds()
        return _Seconds(own, *_processor_seconds(), group or 0.0, time.monotonic())


def _processor_seconds() -> tuple[float, float]:
    """Seconds that the processors which this process may run on were busy, and that they were idle."""
    try:
        lines = [line.split() for line in _STAT.read_text().splitlines() if line.startswith("cpu")]
        names = {f"cpu{number}" for number in _allowed()}
        counted = [line for line in lines if line[0] in names] or lines[:1]
        ticks = [sum(column) for column in zip(*([int(value) for value in line[1:9]] for line in counted), strict=True)]
        user, nice, system, idle, waiting, *rest = (value / os.sysconf("SC_CLK_TCK") for value in ticks)
    except (OSError, ValueError):
        return 0.0, 0.0
    return user + nice + system + sum(rest), idle + waiting


def gpu_memory_gb(device: str = "auto") -> float | None:
    """Memory in GB (1024^3 bytes) of the NVIDIA GPU that `device` means, None without one; torch is not loaded."""
    found = gpu(device)
    return None if found is None else found.memory_gb


def _cpu_name() -> str:
    try:
        fields = [line.split(":", 1) for line in _CPUINFO.read_text().splitlines() if ":" in line]
    except OSError:
        return platform.processor() or platform.machine() or "CPU"
    first = {name.strip(): value.strip() for name, value in reversed(fields)}
    if "model name" in first:
        return first["model name"]
    # Linux on ARM names a processor by two numbers.
    numbers = [first[name] for name in ("CPU implementer", "CPU part") if name in first]
    return " ".join([platform.machine() or "CPU", *numbers])


def hardware(device: str = "auto") -> str:
    """What `device` (auto, cpu, cuda, cuda:1, mps) is on this machine, so that its speed can be remembered."""
    found = gpu(device)
    if found is not None:
        return found.name
    if device.partition(":")[0] in ("cuda", "mps"):
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

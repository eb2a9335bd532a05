"""What a container or a batch system allows this process: Linux's control groups, of version 2 and of version 1."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def _folders(controller: str) -> list[Path]:
    """Folders of the groups that this process is in; the limits of all of them hold."""
    try:
        lines = _OWN.read_text().splitlines()
    except OSError:
        lines = []
    found = [_ROOT]
    for controllers, path in (line.split(":", 2)[1:] for line in lines if line.count(":") >= 2):
        if controllers and controller not in controllers.split(","):
            continue
        # Version 2 has one hierarchy for all; version 1 has one for each controller.
        root = _ROOT / controller if controllers else _ROOT
        own = root / path.lstrip("/")
        # Inside a container the path may be the host's and lead nowhere: the root then is the container's own group.
        found += [folder for folder in (own, *own.parents) if folder.is_relative_to(root)]
    return list(dict.fromkeys(found))


def _number(*files: Path) -> int | None:
    """The number in the first of the files that holds one; ``max`` is none."""
    for file in files:
        try:
            return int(file.read_text())
        except (OSError, ValueError):
            continue
    return None


def _counts(file: Path) -> dict[str, int]:
    """A file of names and numbers; empty where there is none."""
    try:
        return {name: int(value) for name, value in (line.split() for line in file.read_text().splitlines())}
    except (OSError, ValueError):
        return {}


def free_memory() -> int | None:
    """Bytes that the tightest group leaves to this process, at least 0; None where no group has a limit."""
    left = []
    for folder in _folders("memory"):
        limit = _number(folder / "memory.max", folder / "memory.limit_in_bytes")
        used = _number(folder / "memory.current", folder / "memory.usage_in_bytes")
        if limit is None or used is None:
            continue
        counts = _counts(folder / "memory.stat")
        # Files that were read count as used until the room is wanted. Version 1 counts inner groups under "total".
        files = sum(counts.get(f"total_{name}", counts.get(name, 0)) for name in ("active_file", "inactive_file"))
        left.append(max(0, limit - used + files))
    return min(left, default=None)


@dataclass(frozen=True)
class Quota:
    """How much of the processors' time a group may take.

    Attributes
    ----------
    cores : float
        Processor seconds a second.
    folder : Path
        The group's.
    """

    cores: float
    folder: Path

    def used_seconds(self) -> float | None:
        """Processor seconds that all processes of the group have taken so far; None where the system does not tell."""
        microseconds = _counts(self.folder / "cpu.stat").get("usage_usec")
        if microseconds is not None:
            return microseconds / 1e6
        nanoseconds = _number(self.folder / "cpuacct.usage")
        return None if nanoseconds is None else nanoseconds / 1e9


def cpu_quota() -> Quota | None:
    """The tightest limit of processor time; None without any."""
    found = [quota for folder in _folders("cpu") if (quota := _quota(folder)) is not None]
    return min(found, key=lambda quota: quota.cores, default=None)


def _quota(folder: Path) -> Quota | None:
    try:
        limit, period = map(int, (folder / "cpu.max").read_text().split())
    except (OSError, ValueError):  # of version 1, or "max"
        limit, period = (_number(folder / f"cpu.cfs_{name}_us") or -1 for name in ("quota", "period"))
    return Quota(limit / period, folder) if limit > 0 and period > 0 else None

"""Run a command and measure it from outside: wall time, and peak memory of its whole process tree."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

_SAMPLE_S = 0.05
# Reading a large process's PSS stops it for milliseconds: at most this share of its time may go into that.
_LARGEST_SHARE = 0.01


@dataclass(frozen=True)
class Measurement:
    """One run: wall seconds, peak of the summed PSS of the process tree in bytes, processor seconds."""

    seconds: float
    peak_bytes: int
    cpu_seconds: float


def tree_pss(process: psutil.Process) -> int:
    """Summed proportional set size of a process and its descendants: memory shared among them is counted once."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        try:
            total += one.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def measure(
    command: list[str], *, environment: dict[str, str] | None = None, log: Path, cwd: Path | None = None
) -> Measurement:
    """Run `command` to its end.

    Raises
    ------
    SystemExit
        When it fails; the end of its output is shown.
    """
    before = os.times()
    started = time.perf_counter()
    with log.open("wb") as out:
        child = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})}, cwd=cwd
        )
        process, peak = psutil.Process(child.pid), 0
        while child.poll() is None:
            looked = time.perf_counter()
            try:
                peak = max(peak, tree_pss(process))
            except psutil.Error:
                break
            time.sleep(max(_SAMPLE_S, (time.perf_counter() - looked) / _LARGEST_SHARE))
        status = child.wait()
    seconds = time.perf_counter() - started
    after = os.times()
    if status:
        tail = log.read_text(errors="replace")[-2000:]
        raise SystemExit(f"{' '.join(command)} failed with status {status}:\n{tail}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Measurement(seconds, peak, cpu)


class Ledger:
    """Measurements in a JSON file, so that a benchmark that was stopped goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict] = json.loads(path.read_text()) if path.exists() else []

    def of(self, name: str) -> list[Measurement]:
        """The runs of one contender so far."""
        fields = ("seconds", "peak_bytes", "cpu_seconds")
        return [Measurement(**{f: row[f] for f in fields}) for row in self.rows if row["name"] == name]

    def add(self, name: str, measured: Measurement, **extra: object) -> None:
        """Note one run."""
        self.rows.append({"name": name, **asdict(measured), **extra})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.rows, indent=1))

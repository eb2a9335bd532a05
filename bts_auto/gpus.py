"""The NVIDIA GPUs of this machine in torch's order, told by their driver: torch itself takes seconds to load."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes
    ----------
    name : str
        Its model.
    memory_gb : float or None
        In 1024^3 bytes; None where the driver does not tell.
    uuid : str
        The driver's name of this very GPU.
    """

    name: str
    memory_gb: float | None
    uuid: str = ""


def gpu(device: str = "auto") -> Gpu | None:
    """The GPU that torch means by `device` (auto, cpu, cuda, cuda:1, mps); None where that is none, or not there."""
    kind, _, number = device.partition(":")
    found = visible_gpus() if kind in ("auto", "cuda") else []
    index = int(number) if number.isdigit() else 0
    return found[index] if index < len(found) else None


def visible_gpus() -> list[Gpu]:
    """The GPUs that torch sees: none where it was built for processors only; ``CUDA_VISIBLE_DEVICES`` is honoured."""
    if not _torch_has_cuda():
        return []
    found = _ask()
    if os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        # CUDA then counts from the fastest on, of which the driver's list tells the memory only.
        found.sort(key=lambda one: -(one.memory_gb or 0))
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    return found if wanted is None else _chosen(found, wanted.split(","))


def _chosen(found: Sequence[Gpu], wanted: Sequence[str]) -> list[Gpu]:
    """Those that are named by number or UUID; as in CUDA, nothing counts from the first on that is not there."""
    chosen = []
    for name in (name.strip() for name in wanted):
        if name.isdigit():
            fitting = list(found[int(name) : int(name) + 1])
        else:
            fitting = [one for one in found if name and one.uuid.startswith(name)]
        if not fitting:
            break
        chosen.append(fitting[0])
    return chosen


def _torch_has_cuda() -> bool:
    """Whether the torch that is installed was built for NVIDIA GPUs, by its own note of that; torch is not loaded."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return True
    try:
        note = (Path(spec.origin).parent / "version.py").read_text()
    except OSError:
        return True
    return re.search(r"^cuda\b.*=\s*None", note, re.MULTILINE) is None


def _ask() -> list[Gpu]:
    """All GPUs in the order of their sockets; none without the driver."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=uuid,memory.total,name", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    lines = (line.split(",", 2) for line in answer.splitlines() if line.count(",") >= 2)
    return [Gpu(name.strip(), _gigabytes(megabytes), uuid.strip()) for uuid, megabytes, name in lines]


def _gigabytes(megabytes: str) -> float | None:
    try:
        return float(megabytes) / 1024
    except ValueError:
        return None

"""What a training uses of the machine."""

from __future__ import annotations

import sys

import torch

from bts_auto import machine

# More threads than this only take memory.
_MOST_WORKERS = 12


def memory_mb(device: torch.device) -> int:
    """Peak memory so far in MB, of the GPU that is trained on, else of this process; 0 where nothing tells."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) >> 20
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> 20 if sys.platform == "darwin" else peak >> 10


def loader_workers(device: torch.device, batch_size: int, processes: int = 1) -> int:
    """How many threads prepare batches: beside a GPU all cores but one, beside a network on the same CPU one a sample.

    `processes` that train together on this machine share its cores.

    On the CPU the samples of a batch then start together and slow all of the network's threads alike; a single one
    would slow one of them, for which the others wait.
    """
    most = min(_MOST_WORKERS, batch_size) if device.type == "cpu" else _MOST_WORKERS
    return max(1, min(most, machine.cores() // processes - (device.type != "cpu")))

"""Whether this process is one of several that torchrun has started to train together. Needs no torch."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bts_auto.train.distributed import Crew


@dataclass(frozen=True)
class Launch:
    """This process's place: its number among all, its number on this machine, how many there are here and in all."""

    rank: int
    local_rank: int
    local_size: int
    size: int


def leave(status: int) -> None:
    """End a process that torchrun has started, with `status`, without taking the interpreter down; else do nothing.

    A first process was once seen to abort ("terminate called without an active exception", a thread of a library that
    is still running when it is destroyed), and torchrun counts that as a failed training. Nothing is left to be done
    here: all files are written, and the group of processes was left.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def launched() -> Launch | None:
    """The place that torchrun has given this process; None where it was started alone."""
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1 or "RANK" not in os.environ:
        return None
    rank = int(os.environ["RANK"])
    return Launch(rank, int(os.environ.get("LOCAL_RANK", rank)), int(os.environ.get("LOCAL_WORLD_SIZE", size)), size)


@contextlib.contextmanager
def all_processes() -> Iterator[Crew | None]:
    """The processes that torchrun has started, led by this one; None where it is alone."""
    launch = launched()
    if launch is None:
        yield None
        return
    from bts_auto.train.distributed import lead

    with lead(launch) as crew:
        yield crew

"""A training that is run in a process of its own, to be killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bts_auto.events import Observer, Task
from bts_auto.plan.schema import Plan
from bts_auto.train.loop import Limits
from tests.train.tiny import tiny_loop, tiny_plan


def plan() -> Plan:
    """Long enough to be killed many times."""
    return tiny_plan(epochs=40, iterations=5, network={"dropout": 0.3}, weight_average=0.9)


class Reporter(Observer, Task):
    """Writes the number of steps done to a file as they are done."""

    def __init__(self, path: Path) -> None:
        self._path, self._steps = path, 0

    def task(self, title: str, total: int | None = None, unit: str = "case") -> Task:
        return self

    def advance(self, parts: int = 1, **fields: object) -> None:
        self._steps += parts
        with self._path.open("a") as file:
            file.write(f"{self._steps}\n")


def train(folder: Path, report: Path) -> None:
    """Train to the end, saving after every step."""
    torch.set_num_threads(1)
    tiny_loop(folder, plan(), limits=Limits(save_every=0.0), observer=Reporter(report)).run()


def _then_die(function: Callable[..., Any], call: int, *, before: bool) -> Callable[..., Any]:
    """`function`, whose call number `call` is the last thing this process does."""
    calls = 0

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and before:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **kwargs)
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return wrapped


def train_and_die_in_a_save(folder: Path, report: Path, moment: str, call: int) -> None:
    """Train until the given moment of a save."""
    from bts_auto import files
    from bts_auto.train import checkpoint

    if moment == "half written":
        real, calls = checkpoint.save_file, 0

        def save(tensors: Any, path: Path, metadata: Any) -> None:
            nonlocal calls
            calls += 1
            if calls == call:
                path.write_bytes(b"\x10" * 1000)
                os.kill(os.getpid(), signal.SIGKILL)
            real(tensors, path, metadata=metadata)

        checkpoint.save_file = save
    elif moment == "written, nothing renamed":
        checkpoint.save_file = _then_die(checkpoint.save_file, call, before=False)
    elif moment == "previous removed":
        os.link = _then_die(os.link, call, before=True)
    elif moment == "previous linked":
        os.link = _then_die(os.link, call, before=False)
    elif moment == "renamed":
        files._sync_folder = _then_die(files._sync_folder, call, before=True)
    train(folder, report)

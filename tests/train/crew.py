"""Trainings in several processes of this machine, as torchrun would start them."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from bts_auto.errors import BtsError
from bts_auto.files import write_json
from bts_auto.plan.schema import Plan
from bts_auto.train.distributed import Crew, joined
from bts_auto.train.launch import launched
from bts_auto.train.loop import Limits
from bts_auto.train.records import ReadOnly, Records
from bts_auto.train.stopping import TrainingInterrupted
from tests.train.tiny import tiny_loop


def start(size: int, work: Callable[..., None], *args: Any) -> list[BaseProcess]:
    """`work` in `size` processes that find each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.train.crew"])
    processes = [context.Process(target=_as, args=(rank, size, port, work, args)) for rank in range(size)]
    for process in processes:
        process.start()
    return processes


def _as(rank: int, size: int, port: int, work: Callable[..., None], args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()}, MASTER_ADDR="127.0.0.1")
    launch = launched()
    assert launch is not None
    with joined(launch) as crew:
        work(crew, *args)


def loop_of(crew: Any, folder: Path, plan: Plan, **options: Any) -> Any:
    """A tiny loop over this process's samples of the same batches."""
    batch_size = plan.configuration("3d_fullres").batch_size
    kind = Records if crew.rank == 0 else ReadOnly
    across = crew.across(batch_size)
    return tiny_loop(
        folder,
        plan,
        across=across,
        samples=crew.share(batch_size),
        batch_size=batch_size,
        processes=crew,
        share=across.share,
        records=kind(folder),
        limits=Limits(save_every=0.0),
        **options,
    )


def train_all(crew: Crew, trainings: list[tuple[Path, dict[str, Any]]]) -> None:
    """Train several plans one after another."""
    for folder, plan in trainings:
        loop_of(crew, folder, Plan.from_values(plan)).run()


def train_until_told(crew: Crew, folder: Path, plan: dict[str, Any]) -> None:
    """Train; writes how it ended."""
    loop = loop_of(crew, folder, Plan.from_values(plan))
    ended = folder / f"ended_{crew.rank}.json"
    try:
        with loop._interruption.listening():
            loop.run()
    except TrainingInterrupted as interrupted:
        write_json(ended, str(interrupted))


def fail_in_one(crew: Crew, folder: Path) -> None:
    """The second process fails at something that all do; each writes what it hears, and then all go on."""

    def work() -> int:
        if crew.rank == 1:
            raise OSError("the disk is gone")
        return crew.rank

    try:
        crew.together(work)
    except BtsError as error:
        write_json(folder / f"heard_{crew.rank}.json", [str(error), crew.gather(crew.rank), crew.any(crew.rank == 1)])

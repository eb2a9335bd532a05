"""What a process does that trains along with another one."""

from __future__ import annotations

from bts_auto.events import SILENT
from bts_auto.train.assembly import Assembly
from bts_auto.train.distributed import ECHO_S, Order, Processes, follow
from bts_auto.train.job import Fold
from bts_auto.train.launch import Launch
from bts_auto.train.loop import Loop
from bts_auto.train.records import ReadOnly
from bts_auto.train.stopping import Interruption


def train_along(launch: Launch) -> int:
    """Take this process's share of every training that the first process begins; gives back the exit status."""
    return follow(launch, _train)


def _train(order: Order, processes: Processes) -> None:
    interruption = Interruption(ECHO_S)

    def prepare() -> Loop:
        job = Fold.from_json(order["job"])
        assembly = Assembly(job, SILENT, processes)
        parts = assembly.parts(**order["how"])
        return assembly.loop(parts, order["precision"], ReadOnly(job.folder), interruption=interruption)

    with interruption.listening():
        processes.together(prepare).run()

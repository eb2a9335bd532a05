"""One job after the other, in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bts_auto.execute.contract import J, R, S, Task, WorkerDied
from bts_auto.execute.options import SerialOptions


class Serial:
    """See :class:`bts_auto.execute.contract.Executor`."""

    workers = 1

    def __init__(self, options: SerialOptions | None = None) -> None:
        self._device = (options or SerialOptions()).device
        self._prepared: tuple[Any, Any] | None = None

    def __enter__(self) -> Serial:
        return self

    def __exit__(self, *exc: object) -> None:
        self._prepared = None

    def waits_for(self) -> None:
        """Nothing."""

    def run(self, task: Task[S, J, R], jobs: Sequence[J]) -> Iterator[tuple[J, R | WorkerDied]]:
        """Do the jobs in order."""
        if self._prepared is None or self._prepared[0] is not task:
            self._prepared = None  # frees the last one's memory first
            self._prepared = task, task.prepare(self._device)
        for job in jobs:
            for result in task.do(self._prepared[1], job):
                yield job, result

"""One process for each device of this machine.

Imports nothing heavy: a process sets its number of threads before torch is loaded.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, NoReturn

from bts_auto import machine
from bts_auto.errors import BtsError
from bts_auto.execute.contract import J, R, S, Task, WorkerDied
from bts_auto.execute.options import LocalOptions

# A worker that was told to stop finishes the operation that it is in; after this many seconds it is killed.
_PATIENCE_S = 10.0
_RESULT, _END, _ERROR = "result", "end", "error"


class LocalProcesses:
    """See :class:`bts_auto.execute.contract.Executor`. A process starts when there is a job for it.

    A worker that dies costs the job that it was at; a new one takes its place.
    """

    def __init__(self, options: LocalOptions) -> None:
        threads = max(1, machine.cores() // len(options.devices))
        self._workers = [_Worker(device, threads) for device in options.devices]

    @property
    def workers(self) -> int:
        """As many as devices."""
        return len(self._workers)

    def __enter__(self) -> LocalProcesses:
        return self

    def __exit__(self, *exc: object) -> None:
        for worker in self._workers:
            worker.tell_to_stop()
        for worker in self._workers:
            worker.stop()

    def waits_for(self) -> None:
        """Nothing: processes start when they are needed."""

    def run(self, task: Task[S, J, R], jobs: Sequence[J]) -> Iterator[tuple[J, R | WorkerDied]]:
        """Hand the next job to whichever worker is free."""
        left = deque(jobs)
        busy: dict[Connection, tuple[_Worker, J]] = {}
        idle = deque(self._workers)
        while left or busy:
            while left and idle:
                worker, job = idle.popleft(), left.popleft()
                busy[worker.send(task, job)] = worker, job
            for pipe in wait(list(busy)):
                assert isinstance(pipe, Connection)
                worker, job = busy[pipe]
                kind, value = worker.receive()
                if kind == _ERROR:
                    raise value
                if kind == _RESULT:
                    yield job, value
                    if not isinstance(value, WorkerDied):
                        continue
                del busy[pipe]
                idle.append(worker)


class _Worker:
    """This side of a worker process."""

    def __init__(self, device: str, threads: int) -> None:
        self._device, self._threads = device, threads
        self._process: Any = None
        self._pipe: Connection | None = None
        self._task: Any = None

    def send(self, task: Any, job: Any) -> Connection:
        """Hand it a job, and the task where it is new to it; answers come through the connection."""
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(
                target=_serve, args=(theirs, self._device, self._threads), name=f"worker {self._device}", daemon=True
            )
            self._process.start()
            theirs.close()
        assert self._pipe is not None
        news, self._task = (None if task is self._task else task), task
        with contextlib.suppress(BrokenPipeError):  # it has died; receiving says so
            self._pipe.send((news, job))
        return self._pipe

    def receive(self) -> tuple[str, Any]:
        """The next message; a worker that has died is cleared away and says `WorkerDied`."""
        assert self._pipe is not None
        try:
            return self._pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            code = self._process.exitcode
            self.stop()
            how = f"signal {-code}" if code < 0 else f"status {code}"
            return _RESULT, WorkerDied(
                f"its process on {self._device} died ({how}), most likely for want of memory",
                mend="close other programs, or use fewer devices",
            )

    def tell_to_stop(self) -> None:
        """Interrupt it."""
        if self._process is not None:
            self._process.terminate()

    def stop(self) -> None:
        """Wait for its end, not for ever."""
        if self._process is None:
            return
        self._process.join(_PATIENCE_S)
        self._process.kill()
        self._process.join()
        assert self._pipe is not None
        self._pipe.close()
        self._process = self._pipe = self._task = None


def _serve(pipe: Connection, device: str, threads: int) -> None:
    """The worker process: prepare at a new task, do jobs, until the other side is gone or stops it."""
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    # A terminal interrupts all processes at once; the one that was started there tells the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)
    task = state = None
    with contextlib.suppress(KeyboardInterrupt, EOFError, ConnectionError):
        while True:
            news, job = pipe.recv()
            try:
                if news is not None:
                    state = None
                    task, state = news, news.prepare(device)
                assert task is not None
                for result in task.do(state, job):
                    pipe.send((_RESULT, result))
            except Exception as error:
                pipe.send((_ERROR, portable(error)))
            else:
                pipe.send((_END, None))


def _interrupt(*_: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
    raise KeyboardInterrupt


def portable(error: Exception) -> Exception:
    """An exception that survives pickling and says the same."""
    return error if isinstance(error, BtsError) else RuntimeError(f"{type(error).__name__}: {error}")

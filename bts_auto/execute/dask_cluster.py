"""Jobs on the workers of a Dask cluster that is there already. The cluster is left as it was found."""

from __future__ import annotations

import threading
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import Any

from bts_auto import __version__
from bts_auto.errors import BtsError, PlanError
from bts_auto.execute.contract import J, R, S, Task, WorkerDied
from bts_auto.execute.local import portable
from bts_auto.execute.options import DaskOptions

_ANSWER_WITHIN_S = 10
# How often to look for workers that have joined.
_LOOK_EVERY_S = 2
# Below this many workers, jobs are cut as for this many: a cluster may grow while it works.
_FEWEST = 4
_ATTRIBUTE = "bts_auto_prepared"


class DaskCluster:
    """See :class:`bts_auto.execute.contract.Executor`.

    A worker process has one job at a time, however many threads it has, and keeps what it prepared until the end. The
    jobs of a worker that dies go to others; one that has killed several (Dask's ``allowed-failures``) is given up.
    Workers must reach the same files under the same names and have the same version of this package.
    """

    def __init__(self, options: DaskOptions) -> None:
        try:
            from distributed import Client
        except ImportError:
            raise PlanError("the executor dask is not installed", mend="pip install 'bts_auto[dask]'") from None
        try:
            self._client = Client(options.scheduler, timeout=_ANSWER_WITHIN_S, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            words = " ".join(str(error).split())
            raise PlanError(
                f"no Dask scheduler answers ({words})", where=options.scheduler, mend="start it with 'dask scheduler'"
            ) from None
        self._device, self._address = options.device, options.scheduler
        self._running: dict[Any, tuple[Any, str | None]] = {}
        self._keys: dict[int, tuple[object, str]] = {}

    @property
    def workers(self) -> int:
        """At least a few, since a cluster may grow."""
        return max(_FEWEST, len(self._client.nthreads()))

    def __enter__(self) -> DaskCluster:
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self._client.cancel(list(self._running))
            self._client.run(_forget, [key for _, key in self._keys.values()], on_error="ignore")
        finally:
            self._client.close()

    def waits_for(self) -> str | None:
        """The first worker, where there is none."""
        if self._client.nthreads():
            return None
        return f"{self._address} has no worker yet, waiting for one (start it with 'dask worker {self._address}')"

    def run(self, task: Task[S, J, R], jobs: Sequence[J]) -> Iterator[tuple[J, R | WorkerDied]]:
        """Keep every worker at one job."""
        _, key = self._keys.setdefault(id(task), (task, uuid.uuid4().hex))
        left = deque(jobs)
        ended: SimpleQueue[Any] = SimpleQueue()
        while left or self._running:
            for address in self._free()[: len(left)]:
                job = left.popleft()
                future = self._client.submit(
                    _on_worker, __version__, key, task, self._device, job,
                    workers=address, allow_other_workers=address is not None, pure=False,
                )  # fmt: skip
                self._running[future] = job, address
                future.add_done_callback(ended.put)
            try:
                future = ended.get(timeout=_LOOK_EVERY_S)
            except Empty:
                continue
            job, _ = self._running.pop(future)
            for result in _results(future):
                yield job, result

    def _free(self) -> list[str | None]:
        """Workers without a job; the unnamed one that will come, where there is none at all."""
        busy = {address for _, address in self._running.values()}
        there = list(self._client.nthreads())
        return [address for address in there or [None] if address not in busy]


def _results(future: Any) -> list[Any]:
    from distributed.scheduler import KilledWorker

    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, KilledWorker):
        return [WorkerDied("every worker that took it died, most likely for want of memory", mend="see their logs")]
    if isinstance(error, BtsError):
        raise error
    raise BtsError(
        f"a worker could not do its job ({type(error).__name__}: {' '.join(str(error).split())})",
        mend="workers need the same packages and files as this machine",
    )


def _on_worker(version: str, key: str, task: Any, device: str, job: Any) -> list[Any]:
    """On a worker: prepare unless that is done, then the job."""
    from distributed import get_worker

    if version != __version__:
        raise PlanError(f"the worker has bts_auto {__version__}, not {version}", mend="install the same on all workers")
    worker: Any = get_worker()
    prepared = vars(worker).setdefault(_ATTRIBUTE, {"lock": threading.Lock()})
    with prepared["lock"]:
        if prepared.get("key") != key:
            prepared.pop("state", None)
            prepared["state"] = task.prepare(device)
            prepared["key"] = key
        try:
            return list(task.do(prepared["state"], job))
        except Exception as error:
            raise portable(error) from None


def _forget(keys: list[str], dask_worker: Any) -> None:
    """On a worker: free what these tasks prepared."""
    prepared = vars(dask_worker).get(_ATTRIBUTE, {})
    if prepared.get("key") in keys:
        del vars(dask_worker)[_ATTRIBUTE]

"""Running one function over many cases on threads or processes, so that a dead worker costs its own case only."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

J = TypeVar("J")
R = TypeVar("R")


def one_blas_thread() -> AbstractContextManager[Any]:
    """Keep matrix products to one thread each; as a context, until it is left.

    The products of preprocessing are small. Threads of BLAS that wait for each other beside several cases took half as
    much processor time again.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return nullcontext()
    return threadpool_limits(1, user_api="blas")


def local_pool(workers: int, *, processes: bool) -> Executor:
    """A pool of this machine. Processes are spawned: forked ones inherit locks of threads and can hang."""
    if processes:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(workers, mp_context=context, initializer=one_blas_thread)
    return ThreadPoolExecutor(workers, thread_name_prefix="case")


def in_order(function: Callable[[J], R], jobs: Sequence[J], workers: int) -> list[R]:
    """Results in the order of `jobs`, on threads where that pays; the error of the first job that fails."""
    workers = min(workers, len(jobs))
    if workers < 2:
        return [function(job) for job in jobs]
    with local_pool(workers, processes=False) as threads:
        return list(threads.map(function, jobs))


def run_each(
    function: Callable[[J], R],
    jobs: Sequence[J],
    *,
    executor: Executor | None = None,
    workers: int = 1,
    processes: bool = False,
) -> Iterator[tuple[J, R | BaseException]]:
    """Run `function` on each job and yield (job, result) as they finish, an exception standing for a result.

    Parameters
    ----------
    function
        Importable by name where processes run it.
    executor : Executor, optional
        A pool to use instead of an own one; it is left open.
    workers : int
        Of the own pool; 1 without processes runs everything here.
    processes : bool
        Whether the own pool has processes. When one of them dies, the pool is lost: the jobs that it had not finished
        are then run one at a time in processes of their own, so that the job that kills its worker is known.
    """
    unfinished: list[J] = []
    with one_blas_thread():
        if executor is None and workers <= 1 and not processes:
            for job in jobs:
                yield job, _outcome(function, job)
            return
        pool = executor or local_pool(workers, processes=processes)
        try:
            for job, result in _pooled(pool, function, jobs):
                if isinstance(result, BrokenExecutor):
                    unfinished.append(job)
                else:
                    yield job, result
        finally:
            if executor is None:
                pool.shutdown(wait=True, cancel_futures=True)
    yield from _one_at_a_time(function, unfinished)


def _one_at_a_time(function: Callable[[J], R], jobs: Sequence[J]) -> Iterator[tuple[J, R | BaseException]]:
    """Run jobs in a process beside this one, with a new process after each that dies."""
    left = list(jobs)
    while left:
        with local_pool(1, processes=True) as alone:
            broken = False
            while left and not broken:
                ((job, result),) = _pooled(alone, function, [left.pop(0)])
                broken = isinstance(result, BrokenExecutor)
                yield job, result


def _outcome(function: Callable[[J], R], job: J) -> R | BaseException:
    try:
        return function(job)
    except Exception as error:
        return error


def _pooled(pool: Executor, function: Callable[[J], R], jobs: Sequence[J]) -> Iterator[tuple[J, R | BaseException]]:
    running = {}
    refused: list[tuple[J, BaseException]] = []
    for job in jobs:
        try:
            running[pool.submit(function, job)] = job
        except BrokenExecutor as error:  # a worker died while jobs were still being handed out
            refused.append((job, error))
    for future in as_completed(running):
        failure = future.exception()
        yield running[future], future.result() if failure is None else failure
    yield from refused

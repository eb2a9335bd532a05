"""Jobs on threads and processes."""

from __future__ import annotations

import os
import signal
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor

import pytest

from bts_auto.pool import in_order, run_each


def square(n: int) -> int:
    if n == 3:
        raise ValueError("three")
    return n * n


def square_or_die(n: int) -> int:
    if n == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return square(n)


@pytest.mark.parametrize("workers", [1, 3])
def test_results_and_errors_come_with_their_jobs(workers: int) -> None:
    found = dict(run_each(square, range(5), workers=workers))
    assert {job: found[job] for job in (0, 1, 2, 4)} == {0: 0, 1: 1, 2: 4, 4: 16}
    assert isinstance(found[3], ValueError)


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_the_order_of_their_jobs(workers: int) -> None:
    assert in_order(square, [4, 2, 0, 5], workers) == [16, 4, 0, 25]
    with pytest.raises(ValueError, match="three"):
        in_order(square, range(5), workers)


def test_a_given_pool_stays_open() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert dict(run_each(square, [2], executor=pool)) == {2: 4}
        assert pool.submit(square, 4).result() == 16


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_killed_worker_costs_its_own_job_only() -> None:
    found = dict(run_each(square_or_die, range(5), workers=2, processes=True))
    assert isinstance(found.pop(2), BrokenExecutor)
    assert isinstance(found.pop(3), ValueError)
    assert found == {0: 0, 1: 1, 4: 16}

"""What every executor promises. Dask's is tried where cases are spread (`tests/predict/test_spread.py`)."""

import multiprocessing

import pytest

from bts_auto.errors import BtsError, ModelError, PlanError
from bts_auto.execute.contract import WorkerDied, open_executor
from tests.execute.tasks import Squares

OPTIONS = {"serial": {"device": "cpu"}, "local": {"devices": ("cpu", "cpu:0")}}
JOBS = [(1, 2), (3,), (4, 5), ()]


@pytest.fixture(params=OPTIONS)
def executor(request):
    with open_executor(request.param, **OPTIONS[request.param]) as opened:
        yield opened


def test_every_job_is_done_once(executor):
    results = list(executor.run(Squares(), JOBS))
    assert sorted((job, result[0]) for job, result in results) == [
        ((1, 2), 1),
        ((1, 2), 4),
        ((3,), 9),
        ((4, 5), 16),
        ((4, 5), 25),
    ]


def test_a_worker_prepares_once_and_keeps_it(executor):
    task = Squares()
    states = {result[1] for _ in range(3) for _, result in executor.run(task, JOBS)}
    assert len(states) <= executor.workers


def test_another_task_is_prepared_anew(executor):
    first, second = ({result[1] for _, result in executor.run(Squares(), [(1,)])} for _ in range(2))
    assert not first & second


def test_what_cannot_be_prepared_is_said(executor):
    with pytest.raises(ModelError, match="cannot be loaded"):
        list(executor.run(Squares(fails=True), JOBS))


def test_what_a_job_raises_passes_through(executor):
    with pytest.raises(Exception, match="zero"):
        list(executor.run(Squares(), [(0,)]))


def test_no_jobs_are_no_work(executor):
    assert list(executor.run(Squares(), [])) == []


def test_every_device_works():
    with open_executor("local", devices=("cpu", "cpu:0")) as executor:
        devices = {result[2] for _, result in executor.run(Squares(), [(n,) for n in range(1, 9)])}
    assert devices == {"cpu", "cpu:0"}


def test_a_worker_that_dies_costs_its_own_job_only():
    with open_executor("local", devices=("cpu", "cpu:0")) as executor:
        results = list(executor.run(Squares(), [(1, 13), (2,), (3,), (4,), (5,)]))
    died = [job for job, result in results if isinstance(result, WorkerDied)]
    assert died == [(1, 13)]
    assert sorted(result[0] for _, result in results if not isinstance(result, WorkerDied)) == [1, 4, 9, 16, 25]


def test_no_process_is_left():
    with open_executor("local", devices=("cpu", "cpu:0")) as executor:
        next(iter(executor.run(Squares(), [(n,) for n in range(1, 9)])))
        assert multiprocessing.active_children()
    assert not multiprocessing.active_children()


def test_an_unknown_executor_is_named_with_the_nearest():
    with pytest.raises(PlanError, match="did you mean 'dask'"):
        open_executor("dusk")


def test_a_cluster_needs_an_address():
    with pytest.raises(BtsError, match="scheduler"):
        open_executor("dask")


def test_a_cluster_without_workers_says_that_it_waits():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None, protocol="tcp") as cluster,
        open_executor("dask", scheduler=cluster.scheduler_address) as executor,
    ):
        assert f"start it with 'dask worker {cluster.scheduler_address}'" in executor.waits_for()
        cluster.scale(1)
        executor._client.wait_for_workers(1, timeout=10)
        assert executor.waits_for() is None

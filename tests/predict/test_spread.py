"""A folder of cases on several workers: each case is there, once, whatever happens to a worker."""

import json
import os
import signal
import threading
import time

import numpy as np
import pytest

from bts_auto.data.readers import read_mask
from bts_auto.execute.contract import open_executor
from bts_auto.predict.cases import CaseTask
from bts_auto.predict.folder import spread_folder
from tests.predict.models import make_volume
from tests.predict.spread_models import LoadThreshold
from tests.predict.test_folder import Listening, write_case


@pytest.fixture
def cases(tmp_path):
    (tmp_path / "in").mkdir()
    names = [f"case{number:02d}" for number in range(8)]
    for number, name in enumerate(names):
        write_case(tmp_path / "in", name, seed=number)
    return names


def check_masks(tmp_path, names):
    """Every mask is the one that this process makes."""
    predictor, _ = LoadThreshold()("cpu")
    for number, name in enumerate(names):
        expected = predictor.predict(make_volume(seed=number)).mask
        np.testing.assert_array_equal(read_mask(tmp_path / "out" / f"{name}.nii.gz")[0], expected)
        assert json.loads((tmp_path / "out" / f"{name}.prediction.json").read_text())["finished"]


@pytest.mark.slow
def test_processes_share_the_cases_and_one_that_kills_its_process_is_named(tmp_path, cases):
    listening = Listening()
    (tmp_path / "in" / "case03_0001.nii.gz").write_bytes(b"no image")
    deadly = LoadThreshold(deadly_mean=float(make_volume(seed=5).array.mean()))
    executor = open_executor("local", devices=("cpu", "cpu"))
    result = spread_folder(CaseTask(deadly), tmp_path / "in", tmp_path / "out", executor=executor, observer=listening)
    assert listening.notes == ["model: a threshold"]
    assert {failure.case: "died" in failure.reason for failure in result.failures} == {"case03": False, "case05": True}
    assert len(result.done) == 6
    write_case(tmp_path / "in", "case03", seed=3)
    spread_folder(CaseTask(LoadThreshold()), tmp_path / "in", tmp_path / "out", observer=listening)
    assert "6 of 8 cases are already done" in listening.notes
    check_masks(tmp_path, cases)


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_loses_no_case(tmp_path, cases):
    distributed = pytest.importorskip("distributed")
    out = tmp_path / "out"
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        victim = next(iter(client.run(os.getpid).values()))
        results = []

        def work():
            executor = open_executor("dask", scheduler=cluster.scheduler_address)
            results.append(spread_folder(CaseTask(LoadThreshold(0.5)), tmp_path / "in", out, executor=executor))

        thread = threading.Thread(target=work)
        thread.start()
        while len(list(out.glob("*.nii.gz"))) < 4:
            assert thread.is_alive()
            time.sleep(0.02)
        os.kill(victim, signal.SIGKILL)
        thread.join()
        assert results[0].done == tuple(cases)
        assert not results[0].failures
        check_masks(tmp_path, cases)
        made = {path.name: path.stat().st_mtime_ns for path in out.iterdir() if not path.name.startswith(".")}
        assert sorted(made) == sorted(f"{name}{end}" for name in cases for end in (".nii.gz", ".prediction.json"))

        (out / "case07.nii.gz").unlink()
        listening = Listening()
        executor = open_executor("dask", scheduler=cluster.scheduler_address)
        task = CaseTask(LoadThreshold())
        spread_folder(task, tmp_path / "in", out, executor=executor, observer=listening)
        assert "7 of 8 cases are already done" in listening.notes
        again = {path.name for path in out.iterdir() if path.stat().st_mtime_ns != made.get(path.name)}
        assert {name for name in again if not name.startswith(".")} == {"case07.nii.gz", "case07.prediction.json"}

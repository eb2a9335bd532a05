"""Several folds by one call, and a training that is told to stop."""

from __future__ import annotations

import contextlib
import pickle
from pathlib import Path

import pytest

from bts_auto import steps
from bts_auto.errors import BtsError, CaseFailure, PlanError
from bts_auto.events import SILENT, Observer
from bts_auto.plan.settings import apply_settings
from bts_auto.steps import training
from bts_auto.steps.folds import TrainFolds
from bts_auto.steps.place import locate
from bts_auto.steps.stage import Stage
from bts_auto.train.lock import sole_process
from bts_auto.train.run import STOP_FILE, Run, shares_of_budget
from tests.plan.cases import plan
from tests.steps.cascade_data import FIRST, NAME, SPLITS, make_workspace

CPU = {"device": "cpu", "workers": 0}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return make_workspace(tmp_path_factory.mktemp("folds"))


class Heard(Observer):
    """Keeps warnings and failures."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.failures: list[CaseFailure] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def failed(self, failure: CaseFailure) -> None:
        self.failures.append(failure)


@pytest.fixture(scope="module")
def heard():
    return Heard()


@pytest.fixture(scope="module")
def after_a_failure(workspace, heard):
    """What came of a cross-validation whose first fold failed."""
    train = Stage.train

    def fail_once(stage, fold, *arguments, **options):
        if fold == 0:
            raise RuntimeError("the device is gone")
        return train(stage, fold, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stage, "train", fail_once)
        return steps.train(FIRST, "cv", workspace=workspace, observer=heard, **CPU)


@pytest.fixture(scope="module")
def complete(workspace, after_a_failure):
    """The same call once more."""
    return steps.train(FIRST, "cv", workspace=workspace, **CPU)


def test_a_failed_fold_is_named_and_the_others_finish(after_a_failure):
    assert [(f.case, f.reason) for f in after_a_failure.failures] == [("fold 0", "RuntimeError: the device is gone")]
    assert list(after_a_failure.data["folds"]) == ["1"]


def test_a_failed_fold_is_told_at_once_in_the_words_of_the_result(after_a_failure, heard):
    assert tuple(heard.failures) == after_a_failure.failures
    assert not [line for line in heard.warnings if "fold 0" in line]


def test_finished_folds_are_skipped(complete):
    assert not complete.failures
    assert {fold: result["was_finished"] for fold, result in complete.data["folds"].items()} == {"0": False, "1": True}


def test_a_fold_travels_to_a_worker_that_stands_elsewhere(workspace, complete, tmp_path, monkeypatch):
    """What a worker gets is the pickled task; relative folders would lead it astray."""
    monkeypatch.chdir(workspace.parent)
    place = locate(None, Path(workspace.name))
    stage = Stage.open(place, place.plan(), FIRST, SILENT)
    (job,) = stage.named("1")
    task = TrainFolds(stage, None, {"workers": 0}, {1: None}, validate_only=False, one=False)
    sent = pickle.dumps((task, job))
    monkeypatch.chdir(tmp_path)
    task, job = pickle.loads(sent)
    (done,) = pickle.loads(pickle.dumps(list(task.do(task.prepare("cpu"), job))))
    assert done.training.already_finished
    assert done.scores.cases.keys() == set(job[1].validation)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["local", "dask"])
def test_folds_are_trained_by_workers_and_a_failed_one_is_named(kind, tmp_path):
    made = make_workspace(tmp_path)
    spoilt = made / "results" / NAME / f"default__{FIRST}" / "fold_0"
    spoilt.mkdir(parents=True)
    Run({"other": 1}).save(spoilt)
    with contextlib.ExitStack() as stack:
        options = {"executor": kind, "workers": 0, "device": "cpu,cpu"}
        if kind == "dask":
            distributed = pytest.importorskip("distributed")
            cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
            options |= {"scheduler": stack.enter_context(cluster).scheduler_address, "device": "cpu"}
        outcome = steps.train(FIRST, "cv", workspace=made, **options)
    assert list(outcome.data["folds"]) == ["1"]
    assert [failure.case for failure in outcome.failures] == ["fold 0"]
    assert "other settings" in outcome.failures[0].reason


def test_folds_of_torchrun_are_not_spread(workspace, monkeypatch):
    @contextlib.contextmanager
    def several():
        yield object()

    monkeypatch.setattr("bts_auto.train.launch.all_processes", several)
    with pytest.raises(PlanError, match="train one fold together"):
        steps.train(FIRST, "cv", workspace=workspace, executor="local", **CPU)


def test_all_held_out_cases_are_summed_up(complete):
    assert complete.lines[-1].startswith(f"{FIRST}, 2 folds: Dice on {sum(map(len, SPLITS))} held-out cases: ")
    folds = complete.data["folds"].values()
    for region, mean in complete.data["dice"].items():
        assert mean == pytest.approx(sum(fold["dice"][region] for fold in folds) / 2)  # folds of equal size


def test_one_fold_has_no_summary(workspace, complete):
    outcome = steps.train(FIRST, 1, workspace=workspace, **CPU)
    assert "dice" not in outcome.data
    assert len(outcome.lines) == 2


def test_a_running_training_is_told_to_stop(workspace, complete):
    folder = workspace / "results" / NAME / f"default__{FIRST}" / "fold_1"
    with sole_process(folder):
        outcome = steps.stop_training(FIRST, "cv", workspace=workspace)
    assert outcome.data["told"] == [str(folder)]
    (folder / STOP_FILE).unlink()


def test_a_training_that_does_not_run_is_not_told(workspace, complete):
    with pytest.raises(BtsError, match="no training of 3d_lowres, fold 1, is running"):
        steps.stop_training(FIRST, 1, workspace=workspace)


@pytest.mark.parametrize(
    ("budget", "settings", "options", "is_open"),
    [
        (600.0, [], {}, True),
        (600.0, [], {"epochs": None, "seed": 3}, True),
        (600.0, [], {"epochs": 5}, False),
        (600.0, [], {"iterations": 5}, False),
        (600.0, ["training.epochs=5"], {}, False),
        (600.0, ["training.seed=5"], {}, True),
        (None, [], {}, False),
    ],
)
def test_only_a_length_that_a_budget_foretold_is_open(budget, settings, options, is_open):
    planned = plan((64, 64, 64), gpu_memory_gb=1).model_copy(update={"budget_seconds": budget})
    changed = apply_settings(planned, settings, "3d_fullres")
    assert training._length_is_open(planned, changed, "3d_fullres", options) is is_open


def test_a_budget_is_shared_equally_and_kept_by_what_was_begun(tmp_path):
    new, begun, free = (tmp_path / name for name in ("new", "begun", "free"))
    for folder, budget, finished in ((begun, 25.0, None), (free, None, {})):
        folder.mkdir()
        Run({"budget": budget}, finished=finished).save(folder)
    (free / "checkpoint.safetensors").touch()
    assert shares_of_budget(60.0, [new, begun, free]) == {new: 30.0, begun: 25.0, free: None}
    assert shares_of_budget(60.0, [new]) == {new: 60.0}
    assert shares_of_budget(None, [new, begun]) == {new: None, begun: None}

"""Several folds by one call, and a training that is told to stop."""

from __future__ import annotations

import pytest

from bts_auto import steps
from bts_auto.errors import BtsError
from bts_auto.steps.stage import Stage
from bts_auto.train.lock import sole_process
from bts_auto.train.run import STOP_FILE, Run, shares_of_budget
from tests.steps.cascade_data import FIRST, NAME, SPLITS, make_workspace

CPU = {"device": "cpu", "workers": 0}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return make_workspace(tmp_path_factory.mktemp("folds"))


@pytest.fixture(scope="module")
def after_a_failure(workspace):
    """What came of a cross-validation whose first fold failed."""
    train = Stage.train

    def fail_once(stage, fold, *arguments, **options):
        if fold == 0:
            raise RuntimeError("the device is gone")
        return train(stage, fold, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stage, "train", fail_once)
        return steps.train(FIRST, "cv", workspace=workspace, **CPU)


@pytest.fixture(scope="module")
def complete(workspace, after_a_failure):
    """The same call once more."""
    return steps.train(FIRST, "cv", workspace=workspace, **CPU)


def test_a_failed_fold_is_named_and_the_others_finish(after_a_failure):
    assert [(f.case, f.reason) for f in after_a_failure.failures] == [("fold 0", "RuntimeError: the device is gone")]
    assert list(after_a_failure.data["folds"]) == ["1"]


def test_finished_folds_are_skipped(complete):
    assert not complete.failures
    assert {fold: result["was_finished"] for fold, result in complete.data["folds"].items()} == {"0": False, "1": True}


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


def test_a_budget_is_shared_equally_and_kept_by_what_was_begun(tmp_path):
    new, begun, free = (tmp_path / name for name in ("new", "begun", "free"))
    for folder, budget, finished in ((begun, 25.0, None), (free, None, {})):
        folder.mkdir()
        Run({"budget": budget}, finished=finished).save(folder)
    (free / "checkpoint.safetensors").touch()
    assert shares_of_budget(60.0, [new, begun, free]) == {new: 30.0, begun: 25.0, free: None}
    assert shares_of_budget(60.0, [new]) == {new: 60.0}
    assert shares_of_budget(None, [new, begun]) == {new: None, begun: None}

"""The record of a training, as far as it needs no training."""

from pathlib import Path

import pytest

from bts_auto.errors import PlanError
from bts_auto.train.run import RUN_FILE, Run, is_finished, shares_of_budget

DAMAGED = ["x", "[]", "{}", '{"version": 1}', "null"]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_record_is_refused_with_the_way_out(content: str, tmp_path: Path):
    (tmp_path / RUN_FILE).write_text(content)
    with pytest.raises(PlanError, match="--restart"):
        Run.find(tmp_path, {})


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_record_does_not_keep_others_from_their_share_of_a_budget(content: str, tmp_path: Path):
    folders = [tmp_path / "fold_0", tmp_path / "fold_1"]
    for folder in folders:
        folder.mkdir()
    (folders[0] / RUN_FILE).write_text(content)
    assert shares_of_budget(100.0, folders) == dict.fromkeys(folders, 50.0)
    assert not is_finished(folders[0])


def fold(folder: Path, budget: float | None, *, finished: bool) -> Path:
    """A folder with the record of a training."""
    folder.mkdir()
    Run({"budget": budget}, finished={"steps": 1} if finished else None).save(folder)
    if finished:
        (folder / "checkpoint.safetensors").touch()
    return folder


def test_folds_that_start_over_get_their_share(tmp_path: Path):
    folders = [fold(tmp_path / str(n), budget, finished=True) for n, budget in enumerate([None, 30.0])]
    assert shares_of_budget(60.0, folders, anew=folders) == dict.fromkeys(folders, 30.0)


def test_an_interrupted_command_shares_as_before_when_it_is_repeated(tmp_path: Path):
    folders = [tmp_path / str(n) for n in range(3)]
    first = shares_of_budget(60.0, folders)
    fold(folders[0], first[folders[0]], finished=True)
    fold(folders[1], first[folders[1]], finished=False)
    assert shares_of_budget(60.0, folders) == first


def test_other_settings_are_named(tmp_path: Path):
    Run({"training": {"epochs": 10}}).save(tmp_path)
    with pytest.raises(PlanError, match=r"training\.epochs: 10, now 20"):
        Run.find(tmp_path, {"training": {"epochs": 20}})


@pytest.mark.parametrize("empty", [None, [], {}])
def test_an_option_that_is_newer_than_the_run_and_is_not_used_is_no_other_setting(empty, tmp_path: Path):
    Run({"training": {"epochs": 10}}).save(tmp_path)
    assert Run.find(tmp_path, {"training": {"epochs": 10, "newer": empty}, "newer": empty}) is not None
    with pytest.raises(PlanError, match="newer: None, now 1"):
        Run.find(tmp_path, {"training": {"epochs": 10, "newer": 1}})

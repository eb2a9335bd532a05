"""Recipes listed, shown, and trained member by member."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bts_auto import steps
from bts_auto.errors import BtsError, CaseFailure, PlanError
from bts_auto.steps import members
from bts_auto.steps.place import Outcome


def test_all_shipped_recipes_are_listed_with_size_and_score() -> None:
    listed = steps.recipes()
    rows = {line.split()[0]: line for line in listed.lines if line}
    assert {"default", "brats2020_winner", "deepseg_staple", "nnsegnet", "region_loss_ensemble"} <= rows.keys()
    assert "0.8895" in rows["brats2020_winner"]
    sizes = {one["name"]: one["networks"] for one in listed.data["recipes"]}
    assert sizes["nnsegnet"]["unpooling"]["parameters"] == 27_663_648
    assert list(sizes["deepseg_staple"]) == ["deepseg", "nnunet_a", "nnunet_b"]


def test_one_recipe_is_shown_with_all_that_it_changes() -> None:
    lines = "\n".join(steps.recipes("deepseg_staple").lines)
    for words in ("Zeineldin", "member deepseg", "training.optimizer.name = adam", "combined by: staple", "voxels 200"):
        assert words in lines


def test_a_recipe_of_ones_own_is_a_file_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"about": "Mine.", "extends": "brats2020_winner", "configuration": {"batch_size": 3}}))
    shown = steps.recipes(path)
    assert shown.data["target"] == "regions"
    assert shown.data["networks"]["mine"]["parameters"] > 1e7


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list:
    """Training that only notes what it was asked for; the second member fails."""
    asked = []

    def train(configuration, fold, *, recipe, budget, **how):
        asked.append((recipe, budget))
        if recipe.endswith(":second"):
            raise PlanError("does not fit")
        return Outcome(1, (CaseFailure("case_1", "is bad"),), {"fold": fold}, ("fold 0: done",))

    monkeypatch.setattr(members.training, "train", train)
    (tmp_path / "raw" / "Dataset001_One").mkdir(parents=True)
    (tmp_path / "raw" / "Dataset001_One" / "dataset.json").write_text("{}")
    return asked


def _ensemble(folder: Path) -> Path:
    path = folder / "three.json"
    path.write_text(json.dumps({"about": "Three.", "members": {"first": {}, "second": {}, "third": {}}}))
    return path


def test_every_member_of_an_ensemble_is_trained(tmp_path: Path, called: list) -> None:
    path = _ensemble(tmp_path)
    done = steps.train("3d_fullres", "cv", recipe=path, workspace=tmp_path, budget=300.0)
    assert [recipe for recipe, _ in called] == [f"{path}:first", f"{path}:second", f"{path}:third"]
    assert [budget for _, budget in called] == [100.0, 100.0, 100.0]
    assert done.done == 2
    assert [failure.case for failure in done.failures] == ["second", "first, case_1", "third, case_1"]
    assert list(done.data["members"]) == ["first", "third"]
    assert (tmp_path / "results" / "Dataset001_One" / "three.recipe.json").is_file()


def test_an_ensemble_of_which_nothing_trains_is_an_error(tmp_path: Path, monkeypatch, called: list) -> None:
    def fail(*args, **how):
        raise PlanError("no room")

    monkeypatch.setattr(members.training, "train", fail)
    with pytest.raises(BtsError, match="no room"):
        steps.train("3d_fullres", 0, recipe=_ensemble(tmp_path), workspace=tmp_path)


def test_a_single_recipe_is_trained_as_it_is(called: list) -> None:
    steps.train("3d_fullres", 0, recipe="default")
    assert called == [("default", None)]

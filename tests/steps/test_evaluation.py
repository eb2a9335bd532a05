"""Scoring folders of masks without a workspace, and comparing them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from bts_auto import steps
from bts_auto.cli.evaluate import main
from bts_auto.data.readers import write_map, write_mask
from bts_auto.data.volume import Geometry
from bts_auto.errors import DataError

SHAPE = (6, 12, 12)
GEOMETRY = Geometry(SHAPE, (2.0, 1.0, 1.0))
DATASET = {"labels": {"background": 0, "necrosis": 1, "edema": 2, "enhancing": 3}}
N = 8


def _mask(shift: int = 0) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:5, 2:8, 2:8] = 2
    mask[2:4, 3:7, 3:7] = 3
    mask[2:4, 4:6, 4:6] = 1
    return np.roll(mask, shift, axis=2)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """References beside a dataset.json, good predictions in ``a`` and worse ones in ``b``; no workspace."""
    monkeypatch.chdir(tmp_path)
    for number in range(N):
        write_mask(tmp_path / f"raw/labelsTr/case_{number}.nii.gz", _mask(), GEOMETRY)
        write_mask(tmp_path / f"a/case_{number}.nii.gz", _mask(number % 2), GEOMETRY)
        write_mask(tmp_path / f"b/case_{number}.nii.gz", _mask(number % 2 + 1), GEOMETRY)
    (tmp_path / "raw/dataset.json").write_text(json.dumps(DATASET))
    return tmp_path


def test_the_dataset_beside_the_references_says_what_integers_mean(place: Path) -> None:
    outcome = steps.evaluate(place / "a", place / "raw/labelsTr", metrics=["dice"])
    assert outcome.done == N
    assert set(outcome.data["mean"]) == {"necrosis", "edema", "enhancing", "WT", "TC", "ET"}
    assert json.loads((place / "a/scores.json").read_text())["summary"]["WT"]["dice"]["n"] == N


def test_regions_of_ones_own_need_no_dataset(place: Path) -> None:
    outcome = steps.evaluate(place / "a", place / "b", regions=["tumour=1,2,3", "core=1,3"], metrics=["dice"])
    assert list(outcome.data["mean"]) == ["tumour", "core"]


def test_own_regions_refuse_integers_that_none_of_them_holds(place: Path) -> None:
    with pytest.raises(DataError, match=r"2 \(\d+ voxels\)"):
        steps.evaluate(place / "a", place / "b", regions=["core=1,3"])


def test_where_nothing_can_be_scored_a_case_that_both_folders_have_says_why(place: Path) -> None:
    write_mask(place / "other/case_4.nii.gz", _mask(), Geometry(SHAPE, (3.0, 1.0, 1.0)))
    with pytest.raises(DataError, match=r"the first, case_4: .*spacing"):
        steps.evaluate(place / "other", place / "raw/labelsTr")


def test_known_and_own_regions_are_scored_together(place: Path) -> None:
    outcome = steps.evaluate(place / "a", place / "raw/labelsTr", regions=["ET", "mine=1,2"])
    assert list(outcome.data["mean"]) == ["ET", "mine"]


def test_metrics_tolerances_and_lesion_rules_become_columns(place: Path) -> None:
    steps.evaluate(
        place / "a", place / "raw/labelsTr", metrics=["dice"], tolerances_mm=[1, 2.5], lesions=["met"], output=place
    )
    header = (place / "scores.csv").read_text().splitlines()[0]
    assert header == "case,region,dice,nsd@1,nsd@2.5,lesion_dice@MET,lesion_hd95@MET,lesion_f1@MET"


@pytest.mark.parametrize(
    ("rule", "both", "distance"),
    [("nan", None, None), ("brats2023", 1.0, 374.0), ("one=worst,distance_mm=50", None, 50)],
)
def test_the_empty_rule_decides_what_undefined_scores_are(place: Path, rule: str, both, distance) -> None:
    write_mask(place / "a/case_0.nii.gz", np.zeros(SHAPE, np.uint8), GEOMETRY)
    only_edema = np.where(_mask() == 2, 2, 0).astype(np.uint8)
    write_mask(place / "a/case_1.nii.gz", only_edema, GEOMETRY)
    write_mask(place / "raw/labelsTr/case_1.nii.gz", only_edema, GEOMETRY)
    steps.evaluate(place / "a", place / "raw/labelsTr", empty=rule, metrics=["dice", "hd95"])
    cases = json.loads((place / "a/scores.json").read_text())["cases"]
    assert cases["case_1"]["ET"]["dice"] == both
    assert cases["case_0"]["ET"]["hd95"] == distance


def test_two_folders_are_compared_case_by_case(place: Path) -> None:
    outcome = steps.evaluate([place / "a", place / "b"], place / "raw/labelsTr", metrics=["dice", "hd95"], output=place)
    (pair,) = json.loads((place / "comparison.json").read_text())["comparisons"]
    assert (pair["first"], pair["second"], len(pair["cases"])) == ("a", "b", N)
    assert pair["tests"]["WT"]["dice"]["difference"] > 0 > pair["tests"]["WT"]["hd95"]["difference"]
    assert pair["tests"]["WT"]["dice"]["better"] == pair["tests"]["WT"]["hd95"]["better"] == "a"
    rows = list(csv.DictReader((place / "comparison.csv").open()))
    assert len(rows) == 6 * 2
    assert outcome.data["comparisons"] == [pair]
    assert (place / "a/scores.json").exists()
    assert (place / "b/scores.csv").exists()


def test_p_values_of_three_folders_are_adjusted_for_three_pairs(place: Path) -> None:
    (place / "c").mkdir()
    for path in (place / "b").iterdir():
        (place / "c" / path.name).write_bytes(path.read_bytes())
    folders = [place / "a", place / "b", place / "c"]
    found = steps.evaluate(folders, place / "raw/labelsTr", metrics=["dice"]).data["comparisons"]
    assert [(one["first"], one["second"]) for one in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    test = found[0]["tests"]["WT"]["dice"]
    assert test["p_adjusted"] == pytest.approx(3 * test["p_value"])
    assert found[2]["tests"]["WT"]["dice"]["p_value"] == 1


def test_folders_of_one_name_are_told_apart(place: Path) -> None:
    (place / "x").mkdir(), (place / "y").mkdir()
    (place / "a").rename(place / "x/out"), (place / "b").rename(place / "y/out")
    outcome = steps.evaluate(
        [place / "x/out", place / "y/out"], place / "raw/labelsTr", metrics=["dice"], output=place / "o"
    )
    assert set(outcome.data["folders"]) == {"x_out", "y_out"}
    assert (place / "o/x_out/scores.json").exists()


def test_different_cases_give_status_1_and_their_names(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "a/case_0.nii.gz").rename(place / "a/stranger.nii.gz")
    assert main(["-p", "a", "-g", "raw/labelsTr"]) == 1
    shown = capsys.readouterr()
    assert "failed: case_0: has no prediction in a" in shown.err
    assert "failed: stranger: has no reference in raw/labelsTr" in shown.err
    assert f"{N - 1} cases" in shown.out


def test_nothing_scored_is_one_line_and_writes_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(N):
        write_map(place / f"raw/labelsTr/case_{number}.nii.gz", _mask() / 4.0, GEOMETRY)
    assert main(["-p", "a", "-g", "raw/labelsTr", "-q"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "probabilities" in line
    assert not list(place.rglob("scores.*"))


def test_folders_without_a_common_case_are_scored_and_named(place: Path) -> None:
    for number in range(N):
        (place / ("a" if number < 4 else "b") / f"case_{number}.nii.gz").unlink()
    outcome = steps.evaluate([place / "a", place / "b"], place / "raw/labelsTr", metrics=["dice"])
    assert outcome.done == N
    assert any(failure.case == "a against b" for failure in outcome.failures)
    assert not (place / "a/comparison.json").exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["-p", "a", "a", "-g", "raw/labelsTr"], "twice"),
        (["-p", "a", "missing", "-g", "raw/labelsTr"], "no such folder"),
        (["-p", "a", "-g", "b"], "--regions"),
        (["-p", "a", "-g", "raw/labelsTr", "--regions", "XX"], "known are"),
        (["-p", "a", "-g", "raw/labelsTr", "--regions", "mine=1,9"], "no label 9"),
        (["-p", "a", "-g", "raw/labelsTr", "--regions", "mine=x"], "WT=1,2,3"),
        (["-p", "a", "-g", "raw/labelsTr", "--metrics", "dcie"], "dice"),
        (["-p", "a", "-g", "raw/labelsTr", "--lesions", "LIV"], "GLI"),
        (["-p", "a", "-g", "raw/labelsTr", "--tolerance", "-1"], "not negative"),
        (["-p", "a", "-g", "raw/labelsTr", "--empty", "zero"], "brats2023"),
        (["-p", "a", "-g", "raw/labelsTr", "--empty", "both=1"], "perfect"),
        (["-p", "a", "-g", "raw/labelsTr", "-np", "0"], "-np"),
    ],
)
def test_wrong_usage_is_one_line(place: Path, capsys: pytest.CaptureFixture[str], arguments, word: str) -> None:
    assert main([*arguments, "-q"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert word in line


def test_metrics_are_listed_with_their_definitions() -> None:
    listed = steps.metrics().data["metrics"]
    assert listed["hd95"]["unit"] == "mm"
    assert "surface-distance" in listed["hd95"]["about"]


def test_probabilities_beside_the_masks_are_scored(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(N):
        shown = np.where([_mask() == value for value in range(4)], 0.9, 0.1 / 3)
        np.savez(place / f"a/case_{number}.npz", probabilities=shown.astype(np.float32))
    assert (
        main(["-p", "a", "-g", "raw/labelsTr", "--probabilities", "--metrics", "dice", "--json", "--regions", "ET"])
        == 0
    )
    found = json.loads(capsys.readouterr().out)["mean"]["ET"]
    assert found["auroc"] == found["average_precision"] == 1.0
    assert found["brier"] < 0.01
    assert main(["-p", "b", "-g", "raw/labelsTr", "--probabilities"]) == 2
    assert "bts_predict --save-probabilities" in capsys.readouterr().err

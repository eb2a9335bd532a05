"""Scoring folders: what is scored, what is refused, and what is written."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from bts_auto.data.labels import Labels
from bts_auto.data.readers import write_mask
from bts_auto.data.volume import Geometry
from bts_auto.errors import DataError
from bts_auto.evaluate import probability
from bts_auto.evaluate.case import score_case
from bts_auto.evaluate.folder import evaluate_folder
from bts_auto.evaluate.scores import Scores

SHAPE = (8, 9, 10)
GEOMETRY = Geometry(SHAPE, (2.0, 1.0, 1.0))
DATASET = {
    "labels": {"background": 0, "necrosis": 1, "edema": 2, "enhancing": 3},
    "submission_labels": {"3": 4},
}
LABELS = Labels.from_dataset(DATASET)


def _mask(shift: int = 0) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:7, 1:7, 1:7] = 2
    mask[2:6, 2:6, 2:6] = 3
    mask[3:5, 3:5, 3:5] = 1
    return np.roll(mask, shift, axis=2)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three cases in two folders: predictions and references."""
    for number in range(3):
        write_mask(tmp_path / "p" / f"case_{number}.nii.gz", _mask(number), GEOMETRY)
        write_mask(tmp_path / "g" / f"case_{number}.nii.gz", _mask(), GEOMETRY)
    return tmp_path / "p", tmp_path / "g"


def test_scores_labels_and_derived_regions_of_every_case(folders) -> None:
    scores = evaluate_folder(*folders, LABELS)
    assert list(scores.cases) == ["case_0", "case_1", "case_2"]
    assert scores.regions == ("necrosis", "edema", "enhancing", "WT", "TC", "ET")
    assert not scores.failures
    assert scores.cases["case_0"]["WT"]["dice"] == 1
    assert scores.cases["case_1"]["WT"]["dice"] == pytest.approx(5 / 6)
    assert scores.mean("dice", ["WT"]) == pytest.approx((1 + 5 / 6 + 4 / 6) / 3)


@pytest.mark.parametrize("name", ["average_precision", "auroc", "brier", "expected_calibration_error"])
def test_probabilities_are_scored_in_voxels_that_count(name: str) -> None:
    """As the functions do that are compared with scikit-learn; without any, there is no score."""
    random = np.random.default_rng(0)
    reference = _mask()
    reference[0] = 9
    given = {(1, 2, 3): random.integers(0, 256, SHAPE) / 255, (3,): random.integers(0, 256, SHAPE) / 255}
    regions = {"WT": (1, 2, 3), "ET": (3,), "other": (1,)}
    found = score_case(_mask(1), reference, (1.0,) * 3, regions, [name], ignore=9, probability=given.get)
    counts = reference != 9
    for region, values in list(regions.items())[:2]:
        truth = np.isin(reference[counts], values)
        expected = getattr(probability, name)(given[values][counts], truth)
        assert found[region][name] == pytest.approx(expected, abs=2e-5)
    assert math.isnan(found["other"][name])


def test_the_number_of_workers_changes_nothing(folders) -> None:
    assert (
        evaluate_folder(*folders, LABELS, workers=1).to_json() == evaluate_folder(*folders, LABELS, workers=3).to_json()
    )


def test_cases_in_one_folder_only_are_named_and_the_others_scored(folders) -> None:
    predictions, references = folders
    (references / "case_0.nii.gz").unlink()
    (predictions / "case_2.nii.gz").unlink()
    scores = evaluate_folder(predictions, references, LABELS)
    assert list(scores.cases) == ["case_1"]
    assert [failure.case for failure in scores.failures] == ["case_0", "case_2"]
    assert "no reference" in scores.failures[0].reason
    assert "no prediction" in scores.failures[1].reason


def test_another_grid_is_refused_with_both_geometries(folders) -> None:
    write_mask(folders[0] / "case_1.nii.gz", _mask(), Geometry(SHAPE, (2.0, 1.5, 1.0)))
    scores = evaluate_folder(*folders, LABELS)
    (failure,) = scores.failures
    assert failure.case == "case_1"
    assert "(2, 1.5, 1)" in failure.reason
    assert "(2, 1, 1)" in failure.reason


def test_unknown_labels_are_named_with_their_count(folders) -> None:
    mask = _mask()
    mask[0, 0, :5] = 7
    write_mask(folders[0] / "case_1.nii.gz", mask, GEOMETRY)
    (failure,) = evaluate_folder(*folders, LABELS).failures
    assert "7 (5 voxels)" in failure.reason


def test_submission_integers_are_understood(folders) -> None:
    write_mask(folders[0] / "case_0.nii.gz", LABELS.for_submission(_mask()), GEOMETRY)
    assert evaluate_folder(*folders, LABELS).cases["case_0"]["ET"]["dice"] == 1


def test_a_broken_file_does_not_stop_the_others(folders) -> None:
    (folders[0] / "case_1.nii.gz").write_bytes(b"not an image")
    scores = evaluate_folder(*folders, LABELS)
    assert (list(scores.cases), [f.case for f in scores.failures]) == (["case_0", "case_2"], ["case_1"])


def test_a_reference_of_probabilities_is_refused(folders) -> None:
    from bts_auto.data.readers import write_map

    write_map(folders[1] / "case_1.nii.gz", _mask() / 4.0, GEOMETRY)
    (failure,) = evaluate_folder(*folders, LABELS).failures
    assert "not integers" in failure.reason


@pytest.mark.parametrize("content", ["missing", "empty", "other"])
def test_a_folder_without_masks_is_one_clear_line(folders, tmp_path: Path, content: str) -> None:
    folder = tmp_path / content
    if content != "missing":
        folder.mkdir()
    if content == "other":
        write_mask(folder / "someone.nii.gz", _mask(), GEOMETRY)
    with pytest.raises(DataError, match=content if content != "empty" else "no masks"):
        evaluate_folder(folder, folders[1], LABELS)


def test_an_unknown_region_is_refused(folders) -> None:
    with pytest.raises(DataError, match="WT"):
        evaluate_folder(*folders, LABELS, regions=["whole"])


def test_ignored_voxels_count_for_nothing() -> None:
    labels = Labels.from_dataset({"labels": {"background": 0, "tumour": 1, "ignore": 2}})
    reference, prediction = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    reference[:4, 2:5, 2:5], reference[4:] = 1, 2
    prediction[:, 2:5, 2:5] = 1
    found = score_case(prediction, reference, GEOMETRY.spacing, labels.scoring(), ["dice", "specificity"], ignore=2)
    assert found == {"tumour": {"dice": 1.0, "specificity": 1.0}}


def test_what_a_reference_was_not_made_for_is_not_scored(folders) -> None:
    scores = evaluate_folder(*folders, LABELS, partial={"case_1": ("enhancing",)}, metrics=["dice"], empty="brats")
    told = {region for region, values in scores.cases["case_1"].items() if not math.isnan(values["dice"])}
    assert told == {"enhancing", "ET"}
    assert scores.summary()["WT"]["dice"].n == 2


def test_scores_are_read_back_as_written(folders, tmp_path: Path) -> None:
    write_mask(folders[0] / "case_2.nii.gz", np.zeros(SHAPE, np.uint8), GEOMETRY)
    scores = evaluate_folder(*folders, LABELS, metrics=["dice", "hd95", "nsd@2"])
    scores.save(tmp_path / "scores.json")
    again = Scores.load(tmp_path / "scores.json")
    assert math.isnan(again.cases["case_2"]["WT"]["hd95"])
    assert again.to_json() == scores.to_json()
    assert "95th percentile" in json.loads((tmp_path / "scores.json").read_text())["metrics"]["hd95"]["about"]
    rows = (tmp_path / "scores.csv").read_text().splitlines()
    assert rows[0] == "case,region,dice,hd95,nsd@2"
    assert len(rows) == 1 + 3 * 6
    assert rows[-1] == "case_2,ET,0.0,,0.0"


@pytest.mark.real_data
def test_real_masks_score_perfectly_against_themselves(real_data: Path) -> None:
    folder = real_data / "Dataset021_BraTS2013" / "labelsTr"
    labels = Labels.from_dataset(json.loads((folder.parent / "dataset.json").read_text()))
    scores = evaluate_folder(folder, folder, labels, regions=["WT", "TC", "ET"], metrics=["dice", "hd95"])
    assert scores.mean("dice") == 1
    assert scores.mean("hd95") == 0

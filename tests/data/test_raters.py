"""Cases with several raters: found, read as one, refused, and used from preparing to scoring."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from bts_auto import steps
from bts_auto.data.cases import read_case
from bts_auto.data.raters import RaterMasks, read_reference
from bts_auto.data.raw import RawDataset
from bts_auto.data.readers import read_mask, write_mask
from bts_auto.data.volume import Geometry
from bts_auto.errors import DataError

AGREEMENT = {"background": 0, "at_least_1": [1, 2, 3], "at_least_2": [2, 3], "at_least_3": [3]}


def _edit(dataset: Path, **changes) -> None:
    path = dataset / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _rate(dataset: Path, raters: int = 3) -> dict[str, list[np.ndarray]]:
    """Move each mask to several raters, who see it moved by some voxels; returns theirs."""
    made: dict[str, list[np.ndarray]] = {}
    for path in sorted((dataset / "labelsTr").iterdir()):
        mask, geometry = read_mask(path)
        for number in range(raters):
            moved = np.roll(mask, number, axis=2)
            write_mask(dataset / "ratersTr" / f"rater{number}" / path.name, moved, geometry)
            made.setdefault(path.name.removesuffix(".nii.gz"), []).append(moved)
    shutil.rmtree(dataset / "labelsTr")
    return made


def _reference(dataset: Path, case: str = "case_000") -> np.ndarray:
    mask = RawDataset.open(dataset).training_cases()[case].mask
    assert isinstance(mask, RaterMasks)
    return read_reference(mask)[0]


def test_agreement_is_the_number_of_raters(raw_dataset: Path) -> None:
    made = _rate(raw_dataset)
    _edit(raw_dataset, raters={"name": "agreement"}, labels=AGREEMENT, regions_class_order=[1, 2, 3])
    expected = sum((mask != 0).astype(int) for mask in made["case_000"])
    np.testing.assert_array_equal(_reference(raw_dataset), expected)


def test_majority_is_what_most_raters_say_and_background_in_a_tie(raw_dataset: Path) -> None:
    made = _rate(raw_dataset, 2)
    _edit(raw_dataset, raters={"name": "majority"})
    first, second = made["case_000"]
    np.testing.assert_array_equal(_reference(raw_dataset), np.where(first == second, first, 0))


def test_staple_equals_itk(raw_dataset: Path) -> None:
    made = _rate(raw_dataset)
    _edit(raw_dataset, raters={"name": "staple"})
    images = [sitk.GetImageFromArray((mask != 0).astype(np.uint8)) for mask in made["case_000"]]
    expected = sitk.GetArrayFromImage(sitk.STAPLE(images, 1.0)) > 0.5
    for path in (raw_dataset / "ratersTr").rglob("*.nii.gz"):
        mask, geometry = read_mask(path)
        write_mask(path, mask != 0, geometry)
    np.testing.assert_array_equal(_reference(raw_dataset) == 1, expected)


def test_a_mask_of_its_own_goes_before_the_raters(raw_dataset: Path) -> None:
    before = {path.name: path.read_bytes() for path in (raw_dataset / "labelsTr").iterdir()}
    _rate(raw_dataset)
    _edit(raw_dataset, raters={"name": "majority"})
    (raw_dataset / "labelsTr").mkdir()
    (raw_dataset / "labelsTr" / "case_001.nii.gz").write_bytes(before["case_001.nii.gz"])
    cases = RawDataset.open(raw_dataset).training_cases()
    assert isinstance(cases["case_001"].mask, Path)
    assert isinstance(cases["case_000"].mask, RaterMasks)


def test_raters_without_a_word_how_to_read_them_are_refused(raw_dataset: Path) -> None:
    _rate(raw_dataset)
    with pytest.raises(DataError, match="staple"):
        RawDataset.open(raw_dataset).training_cases()


@pytest.mark.parametrize("declared", ["staple", {"name": "vote"}, {"name": "staple", "options": {"x": 1}}, {"nam": 1}])
def test_a_wrong_declaration_is_refused(raw_dataset: Path, declared) -> None:
    _edit(raw_dataset, raters=declared)
    with pytest.raises(DataError, match="raters"):
        RawDataset.open(raw_dataset)


def _missing(folder: Path) -> None:
    (folder / "rater1" / "case_000.nii.gz").unlink()


def _elsewhere(folder: Path) -> None:
    path = folder / "rater1" / "case_000.nii.gz"
    mask, geometry = read_mask(path)
    write_mask(path, mask, Geometry(geometry.size, (9.0, 1.0, 1.0)))


def _unknown(folder: Path) -> None:
    path = folder / "rater1" / "case_000.nii.gz"
    mask, geometry = read_mask(path)
    mask[0, 0, :5] = 9
    write_mask(path, mask, geometry)


@pytest.mark.parametrize(
    ("spoil", "word"), [(_missing, "rater1/case_000"), (_elsewhere, "not on one grid"), (_unknown, r"9 \(5 voxels\)")]
)
def test_what_is_wrong_with_a_rater_is_named(raw_dataset: Path, spoil, word: str) -> None:
    _rate(raw_dataset)
    _edit(raw_dataset, raters={"name": "majority"})
    spoil(raw_dataset / "ratersTr")
    raw = RawDataset.open(raw_dataset)
    with pytest.raises(DataError, match=word):
        read_case(raw.training_cases()["case_000"], raw.channels, raw.labels)


def test_agreement_needs_a_label_for_each_number_of_raters(raw_dataset: Path) -> None:
    _rate(raw_dataset, 4)
    _edit(raw_dataset, raters={"name": "agreement"})
    with pytest.raises(DataError, match="know 4"):
        _reference(raw_dataset)


def test_raters_are_planned_prepared_and_scored_against(raw_dataset: Path, tmp_path: Path) -> None:
    _rate(raw_dataset)
    _edit(raw_dataset, raters={"name": "agreement"}, labels=AGREEMENT, regions_class_order=[1, 2, 3])
    raw = tmp_path / "ws" / "raw" / raw_dataset.name
    raw.parent.mkdir(parents=True)
    shutil.move(raw_dataset, raw)
    where = {"workspace": tmp_path / "ws"}
    outcome = steps.plan_and_preprocess(configurations=("3d_fullres",), gpu_memory=1, **where)
    assert not outcome.failures
    reference = RawDataset.open(raw).training_cases()["case_000"].mask
    assert reference is not None
    mask, geometry = read_reference(reference)
    write_mask(tmp_path / "out" / "case_000.nii.gz", mask, geometry)
    scored = steps.evaluate(tmp_path / "out", metrics=["dice", "qubiq"], **where)
    assert scored.data["mean"]["at_least_2"]["dice"] == 1
    assert scored.data["mean"]["at_least_1"]["qubiq"] == 1
    # Read in another way, every case has another content and is prepared again.
    before = {case: files.content_hash() for case, files in RawDataset.open(raw).training_cases().items()}
    _edit(raw, raters={"name": "agreement", "options": {}}, labels=AGREEMENT)
    assert {case: files.content_hash() for case, files in RawDataset.open(raw).training_cases().items()} == before
    _edit(raw, raters={"name": "majority"})
    assert not set(before.values()) & {f.content_hash() for f in RawDataset.open(raw).training_cases().values()}

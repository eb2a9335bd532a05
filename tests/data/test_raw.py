"""Raw datasets, and the cases of a folder that is to be predicted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from bts_auto.data.incoming import find_cases, several_cases, unused_images
from bts_auto.data.raw import RawDataset
from bts_auto.data.readers import read_volume
from bts_auto.errors import DataError


def edit(folder: Path, **changes) -> None:
    path = folder / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_open_reads_the_declarations(raw_dataset: Path) -> None:
    raw = RawDataset.open(raw_dataset)
    assert (raw.name, raw.id, raw.channels, raw.file_ending) == ("Dataset001_Tiny", 1, ("T1", "FLAIR"), ".nii.gz")
    assert raw.labels.foreground == ("necrosis", "edema", "enhancing")


def test_training_cases_name_their_files(raw_dataset: Path) -> None:
    cases = RawDataset.open(raw_dataset).training_cases()
    assert list(cases) == [f"case_{i:03d}" for i in range(4)]
    files = cases["case_002"]
    assert [path.name for path in files.images] == ["case_002_0000.nii.gz", "case_002_0001.nii.gz"]
    assert files.mask == raw_dataset / "labelsTr" / "case_002.nii.gz"


def test_hidden_files_are_passed_over(raw_dataset: Path) -> None:
    (raw_dataset / "imagesTr" / "._case_000_0000.nii.gz").write_bytes(b"x")
    assert len(RawDataset.open(raw_dataset).training_cases()) == 4


def test_mask_without_images_is_a_case_that_fails(raw_dataset: Path) -> None:
    shutil.copy(raw_dataset / "labelsTr/case_000.nii.gz", raw_dataset / "labelsTr/lost.nii.gz")
    assert not RawDataset.open(raw_dataset).training_cases()["lost"].images[0].exists()


def test_unknown_keys_and_reader_overrides_are_tolerated(raw_dataset: Path) -> None:
    edit(raw_dataset, overwrite_image_reader_writer="SimpleITKIO", licence="CC0", release="1")
    assert RawDataset.open(raw_dataset).channels == ("T1", "FLAIR")


def test_num_training_is_only_remarked(raw_dataset: Path) -> None:
    edit(raw_dataset, numTraining=9)
    raw = RawDataset.open(raw_dataset)
    assert len(raw.training_cases()) == 4
    assert "numTraining is 9" in raw.remarks()[0]


def test_path_mapping_with_variables_and_relative_paths(raw_dataset: Path, monkeypatch, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(raw_dataset / "imagesTr", elsewhere)
    monkeypatch.setenv("SCANS", str(elsewhere))
    entry = {
        "images": ["$SCANS/case_001_0000.nii.gz", "${SCANS}/case_001_0001.nii.gz"],
        "label": "labelsTr/case_001.nii.gz",
    }
    edit(raw_dataset, dataset={"patient": entry})
    (files,) = RawDataset.open(raw_dataset).training_cases().values()
    assert files.case == "patient"
    assert files.images[0] == elsewhere / "case_001_0000.nii.gz"
    assert all(path.is_file() for path in files.files)


@pytest.mark.parametrize(
    ("mapping", "line"),
    [
        ({}, "must map each case"),
        ({"a": {"images": ["x.nii.gz"]}}, "needs 'images' and 'label'"),
        ({"../a": {"images": ["x.nii.gz"], "label": "y.nii.gz"}}, "is no name for a case"),
    ],
)
def test_wrong_path_mapping(raw_dataset: Path, mapping: dict, line: str) -> None:
    edit(raw_dataset, dataset=mapping)
    with pytest.raises(DataError, match=line):
        RawDataset.open(raw_dataset).training_cases()


def test_test_and_unlabelled_cases(raw_dataset: Path) -> None:
    shutil.copytree(raw_dataset / "imagesTr", raw_dataset / "imagesTs")
    shutil.copytree(raw_dataset / "imagesTr", raw_dataset / "imagesUn")
    raw = RawDataset.open(raw_dataset)
    assert {files.mask for files in raw.test_cases().values()} == {None}
    assert len(raw.unlabelled_cases()) == 4


def test_other_formats(raw_dataset: Path) -> None:
    assert RawDataset.open(raw_dataset).test_cases() == {}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"channel_names": {}}, "needs 'channel_names'"),
        ({"channel_names": {"1": "T1"}}, "must count from 0"),
        ({"channel_names": {"a": "T1"}}, "must map numbers to names"),
        ({"file_ending": ".jpg"}, "file_ending '.jpg' is not known"),
        ({"labels": {"background": 0}}, "no label but the background"),
    ],
)
def test_wrong_declarations_name_the_file(raw_dataset: Path, changes: dict, line: str) -> None:
    edit(raw_dataset, **changes)
    with pytest.raises(DataError, match=line) as caught:
        RawDataset.open(raw_dataset)
    assert str(raw_dataset / "dataset.json") in str(caught.value)


def test_dataset_json_that_is_no_json(raw_dataset: Path) -> None:
    (raw_dataset / "dataset.json").write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        RawDataset.open(raw_dataset)


def test_missing_dataset_json(raw_dataset: Path) -> None:
    (raw_dataset / "dataset.json").unlink()
    with pytest.raises(DataError, match=r"has no dataset.json"):
        RawDataset.open(raw_dataset)


def test_case_declared_twice(raw_dataset: Path) -> None:
    (raw_dataset / "dataset.json").write_text('{"labels": {}, "dataset": {"a": {}, "a": {}}}')
    with pytest.raises(DataError, match="'a' stands there twice"):
        RawDataset.open(raw_dataset)


def test_case_in_two_formats_is_to_be_predicted(tmp_path: Path) -> None:
    found, failures = find_cases(touch(tmp_path / "in", "a_0000.nii", "a_0000.nii.gz", "b_0000.nii.gz"), 1, ".nii.gz")
    assert list(found) == ["b"]
    assert failures[0].case == "a"
    assert "duplicate case: a_0000.nii " in failures[0].reason


def test_no_case_at_all(raw_dataset: Path) -> None:
    edit(raw_dataset, file_ending=".nrrd")
    with pytest.raises(DataError, match=r"no image ends in .nrrd; it holds case_000_0000.nii.gz"):
        RawDataset.open(raw_dataset).training_cases()


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_find_cases_separates_complete_from_incomplete(tmp_path: Path) -> None:
    folder = touch(tmp_path / "in", "a_0000.nii.gz", "a_0001.nii.gz", "b_0001.nii.gz", "notes.txt")
    found, failures = find_cases(folder, 2, ".nii.gz")
    assert list(found) == ["a"]
    (failure,) = failures
    assert failure.case == "b"
    assert "missing channel file b_0000.nii.gz" in failure.reason


def test_find_cases_names_superfluous_channels(tmp_path: Path) -> None:
    folder = touch(tmp_path / "in", "a_0000.nii.gz", "a_0001.nii.gz")
    found, failures = find_cases(folder, 1, ".nii.gz")
    assert found == {}
    assert "a_0001.nii.gz is more than the 1 channels" in failures[0].reason


def test_single_channel_needs_no_number(tmp_path: Path) -> None:
    found, failures = find_cases(touch(tmp_path / "in", "scan.nii.gz"), 1, ".nii.gz")
    assert (list(found), failures) == (["scan"], [])


def test_one_file_with_all_channels_is_a_complete_case(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.ones((2, 3, 4, 5), np.float32), isVector=False)
    (tmp_path / "in").mkdir()
    sitk.WriteImage(image, str(tmp_path / "in" / "scan.nii.gz"))
    found, failures = find_cases(tmp_path / "in", 2, ".nii.gz")
    assert (len(found["scan"].images), failures) == (1, [])
    assert read_volume(found["scan"].images, ("T1", "FLAIR")).array.shape == (2, 3, 4, 5)
    assert find_cases(tmp_path / "in", 3, ".nii.gz")[0] == {}


@pytest.mark.parametrize(
    ("names", "several"),
    [(["a_0000.nii.gz", "a_0001.nii.gz"], False), (["a.nii.gz", "b.nrrd"], True), (["a.nii.gz", "notes.txt"], False)],
)
def test_several_cases(tmp_path: Path, names: list[str], several: bool) -> None:
    assert several_cases(touch(tmp_path / "in", *names)) is several


def test_unnumbered_file_among_several_channels_fails_by_name(tmp_path: Path) -> None:
    found, failures = find_cases(touch(tmp_path / "in", "scan.nii.gz"), 2, ".nii.gz")
    assert found == {}
    assert "no channel number" in failures[0].reason


def test_rgb_file_is_a_complete_case(tmp_path: Path) -> None:
    found, _ = find_cases(touch(tmp_path / "in", "a_0000.png"), 3, ".png")
    assert len(found["a"].images) == 1


def test_find_cases_in_an_empty_or_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no image is there.*\.nrrd"):
        find_cases(touch(tmp_path / "in"), 1, ".nii.gz")
    with pytest.raises(DataError, match="is a file"):
        find_cases(touch(tmp_path / "files", "a.nii.gz") / "a.nii.gz", 1, ".nii.gz")
    with pytest.raises(DataError, match="no such folder"):
        find_cases(tmp_path / "nowhere", 1, ".nii.gz")


def test_scans_of_every_format_are_found_side_by_side(tmp_path: Path) -> None:
    names = ("a_0000.nii", "b_0000.nii.gz", "c_0000.mha", "d_0000.NRRD", "e_0000.nii.gz", "e_0001.nii")
    found, failures = find_cases(touch(tmp_path / "in", *names), 1, ".nii.gz")
    assert list(found) == ["a", "b", "c", "d"]
    assert [failure.case for failure in failures] == ["e"]


def test_channels_of_one_case_may_differ_in_format(tmp_path: Path) -> None:
    found, _ = find_cases(touch(tmp_path / "in", "a_0001.nii", "a_0000.mha"), 2, ".nii.gz")
    assert [path.name for path in found["a"].images] == ["a_0000.mha", "a_0001.nii"]


def test_pictures_beside_scans_are_no_cases(tmp_path: Path) -> None:
    folder = touch(tmp_path / "in", "a_0000.nii.gz", "shot.png")
    assert list(find_cases(folder, 1, ".nii.gz")[0]) == ["a"]
    assert [path.name for path in unused_images(folder, ".nii.gz")] == ["shot.png"]
    assert list(find_cases(folder, 1, ".png")[0]) == ["shot"]


def test_training_images_of_another_ending_are_remarked_on(raw_dataset: Path) -> None:
    assert RawDataset.open(raw_dataset).remarks() == []
    touch(raw_dataset / "imagesTr", "late_0000.nii", "late_0001.nii")
    (remark,) = RawDataset.open(raw_dataset).remarks()
    assert "2 images do not end in .nii.gz" in remark
    assert "late_0000.nii" in remark

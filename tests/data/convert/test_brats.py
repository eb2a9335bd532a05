"""BraTS folders of every year's naming."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from bts_auto.data.convert.brats import convert_brats
from bts_auto.data.convert.brats_names import find_subjects, label_scheme
from bts_auto.data.fingerprint import compute_fingerprint
from bts_auto.data.raw import RawDataset
from bts_auto.data.splits import load_or_make_splits
from bts_auto.errors import DataError
from tests.make_data import make_case, write_image


def subject(folder: Path, names: list[str], seg: str | None, values=(1, 2, 4), seed: int = 0) -> None:
    """One subject: four image files, in the order T1, T1c, T2, FLAIR, and a mask."""
    image, mask = make_case((8, 10, 9), len(names), values, seed)
    for name, channel in zip(names, image, strict=True):
        write_image(folder / name, channel)
    if seg is not None:
        write_image(folder / seg, mask)


def plain(case: str, ending: str = ".nii.gz", t1c: str = "t1ce") -> list[str]:
    return [f"{case}_{sequence}{ending}" for sequence in ("t1", t1c, "t2", "flair")]


def modern(case: str) -> list[str]:
    return [f"{case}-{sequence}.nii.gz" for sequence in ("t1n", "t1c", "t2w", "t2f")]


def load(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def document(folder: Path) -> dict:
    return json.loads((folder / "dataset.json").read_text())


def test_2018_in_grade_folders_with_label_4(tmp_path: Path) -> None:
    source = tmp_path / "MICCAI_BraTS_2018"
    for grade, case in (("HGG", "Brats18_2013_10_1"), ("LGG", "Brats18_TCIA_101_1")):
        subject(source / grade / case, plain(case), f"{case}_seg.nii.gz")
    (source / "survival_data.csv").write_text("BraTS18ID,Age,Survival\nBrats18_2013_10_1,60.1,300\n")
    made = convert_brats(source, tmp_path / "raw", 21, "Glioma")
    assert (made.done, made.failures) == (2, ())
    assert made.folder.name == "Dataset021_Glioma"
    content = document(made.folder)
    assert content["channel_names"] == {"0": "T1", "1": "T1c", "2": "T2", "3": "FLAIR"}
    assert content["labels"] == {"background": 0, "necrosis": 1, "edema": 2, "enhancing": 3}
    assert content["submission_labels"] == {"3": 4}
    before = load(source / "HGG/Brats18_2013_10_1/Brats18_2013_10_1_seg.nii.gz")
    after = load(made.folder / "labelsTr/Brats18_2013_10_1.nii.gz")
    np.testing.assert_array_equal(after, np.where(before == 4, 3, before))
    assert (made.folder / "survival_data.csv").read_text().startswith("BraTS18ID")
    assert (made.folder / "cases.csv").read_text().splitlines() == [
        "case,patient_id,grade",
        "Brats18_2013_10_1,Brats18_2013_10,HGG",
        "Brats18_TCIA_101_1,Brats18_TCIA_101,LGG",
    ]
    raw = RawDataset.open(made.folder)
    assert raw.labels.for_submission(np.array([3])).tolist() == [4]
    assert compute_fingerprint(raw)[1] == []


def test_2020_with_the_odd_mask_name_and_plain_nifti(tmp_path: Path) -> None:
    source = tmp_path / "src"
    for number in (354, 355):
        case = f"BraTS20_Training_{number}"
        seg = f"{case}_seg.nii" if number == 354 else "W39_1998.09.19_Segm.nii"
        subject(source / case, plain(case, ".nii"), seg)
    (source / "name_mapping.csv").write_text("Grade,BraTS_2020_subject_ID\n")
    made = convert_brats(source, tmp_path / "raw", 20, "BraTS2020")
    assert (made.done, made.failures) == (2, ())
    assert (made.folder / "labelsTr/BraTS20_Training_355.nii.gz").is_file()
    assert (made.folder / "name_mapping.csv").is_file()
    packed = gzip.decompress((made.folder / "imagesTr/BraTS20_Training_355_0003.nii.gz").read_bytes())
    assert packed == (source / "BraTS20_Training_355/BraTS20_Training_355_flair.nii").read_bytes()


def test_2023_with_label_3_and_unlabelled_cases(tmp_path: Path) -> None:
    source = tmp_path / "src"
    for number in range(3):
        case = f"BraTS-GLI-0000{number}-000"
        subject(source / case, modern(case), f"{case}-seg.nii.gz" if number else None, (1, 2, 3))
    made = convert_brats(source, tmp_path / "raw", 23, "GLI")
    content = document(made.folder)
    assert content["numTraining"] == 2
    assert "submission_labels" not in content
    raw = RawDataset.open(made.folder)
    assert list(raw.test_cases()) == ["BraTS-GLI-00000-000"]
    copied = (made.folder / "imagesTr/BraTS-GLI-00001-000_0001.nii.gz").read_bytes()
    assert copied == (source / "BraTS-GLI-00001-000/BraTS-GLI-00001-000-t1c.nii.gz").read_bytes()


def test_visits_of_one_patient_share_a_fold(tmp_path: Path) -> None:
    source = tmp_path / "src"
    cases = [f"BraTS-GLI-0000{patient}-10{visit}" for patient in range(3) for visit in range(2)]
    for case in cases:
        subject(source / case, modern(case), f"{case}-seg.nii.gz", (1, 2, 3))
    made = convert_brats(source, tmp_path / "raw", 24, "GLI")
    (tmp_path / "preprocessed").mkdir()
    for split in load_or_make_splits(made.folder, tmp_path / "preprocessed", cases):
        assert not {case[:15] for case in split.train} & {case[:15] for case in split.validation}


def test_2013_in_vsd_folders(tmp_path: Path) -> None:
    source = tmp_path / "Image_Data"
    for grade, number in (("HG", "0001"), ("LG", "0001")):
        for index, sequence in enumerate(("MR_T1", "MR_T1c", "MR_T2", "MR_Flair")):
            name = f"VSD.Brain.XX.O.{sequence}.{54512 + index}"
            image, mask = make_case((8, 10, 9), 1, (1, 2, 3, 4), index)
            write_image(source / grade / number / name / f"{name}.mha", image[0], (1, 2, 3), (4, 5, 6))
        name = "VSD.Brain_3more.XX.O.OT.54517"
        write_image(source / grade / number / name / f"{name}.mha", mask, (1, 2, 3), (4, 5, 6))
    made = convert_brats(source, tmp_path / "raw", 13, "VSD")
    assert (made.done, made.failures) == (2, ())
    assert list(document(made.folder)["labels"].values()) == [0, 1, 2, 3, 4]
    image = sitk.ReadImage(str(made.folder / "imagesTr/HG_0001_0003.nii.gz"))
    assert image.GetSpacing() == (3.0, 2.0, 1.0)
    assert image.GetOrigin() == (4.0, 5.0, 6.0)
    assert image.GetPixelID() == sitk.sitkInt16


@pytest.mark.parametrize(
    ("name", "files", "seg"),
    [
        ("Brats17_TCIA_1_1", plain("Brats17_TCIA_1_1"), "Brats17_TCIA_1_1_seg.nii.gz"),
        ("BraTS19_CBICA_AAB_1", plain("BraTS19_CBICA_AAB_1", ".nii"), "BraTS19_CBICA_AAB_1_seg.nii"),
        ("BraTS2021_00002", plain("BraTS2021_00002"), "BraTS2021_00002_seg.nii.gz"),
        ("BRATS_HG0001", [f"BRATS_HG0001_{s}.mha" for s in ("T1", "T1C", "T2", "FLAIR")], "BRATS_HG0001_truth.mha"),
        ("BraTS-MEN-00004-000", modern("BraTS-MEN-00004-000"), "BraTS-MEN-00004-000-seg.nii.gz"),
        ("BraTS-MET-00110-000", modern("BraTS-MET-00110-000"), "BraTS-MET-00110-000-seg.nii.gz"),
        ("BraTS-PED-00002-000", modern("BraTS-PED-00002-000"), "BraTS-PED-00002-000-seg.nii.gz"),
        ("BraTS-SSA-00002-000", modern("BraTS-SSA-00002-000"), "BraTS-SSA-00002-000-seg.nii.gz"),
    ],
)
def test_names_of_every_year(tmp_path: Path, name: str, files: list[str], seg: str) -> None:
    for file in (*files, seg):
        (tmp_path / file).touch()
    (found,) = find_subjects(tmp_path)
    assert found.name == name
    assert [found.files[kind].name for kind in ("T1", "T1c", "T2", "FLAIR", "seg")] == [*files, seg]


@pytest.mark.parametrize(
    ("name", "values", "enhancing"),
    [
        ("Brats17_a", {1, 2, 4}, (3, {3: 4})),
        ("BraTS2021_1", {1, 2}, (3, {3: 4})),
        ("BraTS2021_1", {1, 2, 3}, (3, {})),
        ("BRATS_HG0001", {1, 2, 3, 4}, (4, {})),
        ("BraTS-GLI-1-0", {1, 2, 3}, (3, {})),
        ("BraTS-GLI-1-100", {1, 2, 3, 4}, (3, {})),
        ("BraTS-PED-1-0", {1, 2, 3, 4}, (1, {})),
        ("BraTS-PED-1-0", {1, 2, 3}, (3, {})),
    ],
)
def test_meaning_of_the_integers(name: str, values: set[int], enhancing: tuple) -> None:
    scheme = label_scheme([name], values)
    assert (scheme.labels["enhancing"], scheme.submission) == enhancing


def test_radiotherapy_set_has_one_sequence_and_one_target(tmp_path: Path) -> None:
    source, case = tmp_path / "src", "BraTS-MEN-RT-0001-1"
    subject(source / case, [f"{case}_t1c.nii.gz"], f"{case}_gtv.nii.gz", (1,))
    made = convert_brats(source, tmp_path / "raw", 5, "RT")
    assert document(made.folder)["channel_names"] == {"0": "T1c"}
    assert document(made.folder)["labels"] == {"background": 0, "gtv": 1}


def test_bad_cases_are_skipped_by_name(tmp_path: Path) -> None:
    source = tmp_path / "src"
    for number in range(6):
        case = f"BraTS2021_{number}"
        subject(source / case, plain(case), f"{case}_seg.nii.gz", seed=number)
    (source / "BraTS2021_1/BraTS2021_1_t2.nii.gz").unlink()
    (source / "BraTS2021_2/BraTS2021_2_seg.nii.gz").write_bytes(b"")
    path = source / "BraTS2021_3/BraTS2021_3_t1.nii.gz"
    path.write_bytes(path.read_bytes()[:400])
    subject(source / "again", plain("BraTS2021_4"), None)
    path = source / "BraTS2021_5/BraTS2021_5_flair.nii.gz"
    write_image(path, load(path), (1, 1, 2))
    made = convert_brats(source, tmp_path / "raw", 21, "B")
    reasons = {failure.case[-1]: failure.reason for failure in made.failures}
    assert made.done == 1
    assert {key: key in reasons for key in "012345"} == {"0": False} | dict.fromkeys("12345", True)
    assert "missing channel file (T2)" in reasons["1"]
    assert "is empty" in reasons["2"]
    assert "is truncated" in reasons["3"]
    assert "duplicate case" in reasons["4"]
    assert "spacing" in reasons["5"]
    assert sorted(path.name for path in (made.folder / "labelsTr").iterdir()) == ["BraTS2021_0.nii.gz"]


def test_again_goes_on_and_copies_nothing_twice(tmp_path: Path) -> None:
    source = tmp_path / "src"
    for number in range(2):
        case = f"BraTS2021_{number}"
        subject(source / case, plain(case), f"{case}_seg.nii.gz")
    made = convert_brats(source, tmp_path / "raw", 21, "B")
    (made.folder / "imagesTr/BraTS2021_1_0000.nii.gz").unlink()
    kept = made.folder / "imagesTr/BraTS2021_0_0000.nii.gz"
    before = kept.stat().st_mtime_ns
    assert convert_brats(source, tmp_path / "raw", 21, "B").done == 2
    assert (made.folder / "imagesTr/BraTS2021_1_0000.nii.gz").is_file()
    assert kept.stat().st_mtime_ns == before


def test_taken_ids_and_names(tmp_path: Path) -> None:
    source = tmp_path / "src"
    subject(source / "BraTS2021_0", plain("BraTS2021_0"), "BraTS2021_0_seg.nii.gz")
    made = convert_brats(source, tmp_path / "raw", 21, "B")
    with pytest.raises(DataError, match="id 21 is taken by Dataset021_B"):
        convert_brats(source, tmp_path / "raw", 21, "Other")
    (made.folder / "dataset.json").write_text("{}")
    with pytest.raises(DataError, match="exists already"):
        convert_brats(source, tmp_path / "raw", 21, "B")
    with pytest.raises(DataError, match="no name for a dataset"):
        convert_brats(source, tmp_path / "raw", 22, "a/b")


def test_source_without_cases(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    with pytest.raises(DataError, match="no BraTS case found"):
        convert_brats(tmp_path / "src", tmp_path / "raw", 21, "B")
    with pytest.raises(DataError, match="no such folder"):
        convert_brats(tmp_path / "nowhere", tmp_path / "raw", 21, "B")
    assert not (tmp_path / "raw").exists()

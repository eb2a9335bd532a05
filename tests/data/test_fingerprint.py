"""Fingerprints against a plain NumPy computation, their cache, and every bad case by name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from bts_auto.data import case_tally
from bts_auto.data.fingerprint import Fingerprint, compute_fingerprint
from bts_auto.data.raw import RawDataset
from bts_auto.errors import BtsError, DataError
from bts_auto.events import Observer
from tests.make_data import make_raw_dataset, write_dataset_json, write_image


class Listener(Observer):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def load(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def in_numpy(folder: Path, n_channels: int = 2) -> dict:
    """The fingerprint of an LPS dataset by the shortest way, everything in memory."""
    shapes, sizes, voxels = [], [], [[] for _ in range(n_channels)]
    for mask_path in sorted((folder / "labelsTr").iterdir()):
        case = mask_path.name.split(".")[0]
        image = np.stack([load(folder / "imagesTr" / f"{case}_{i:04d}.nii.gz") for i in range(n_channels)])
        found = np.argwhere((image != 0).any(0))
        shape = found.max(0) - found.min(0) + 1
        shapes.append(tuple(shape.tolist()))
        sizes.append(np.prod(shape) / image[0].size)
        for i in range(n_channels):
            voxels[i].append(image[i][load(mask_path) > 0].astype(np.float64))
    joined = [np.concatenate(parts) for parts in voxels]
    return {
        "shapes": tuple(shapes),
        "size": np.median(sizes),
        "channels": [
            {
                "mean": v.mean(),
                "median": np.median(v),
                "std": v.std(),
                "min": v.min(),
                "max": v.max(),
                "percentile_00_5": np.percentile(v, 0.5),
                "percentile_99_5": np.percentile(v, 99.5),
            }
            for v in joined
        ],
    }


def assert_equals_numpy(found: Fingerprint, folder: Path) -> None:
    expected = in_numpy(folder)
    assert found.shapes_after_crop == expected["shapes"]
    assert found.median_relative_size_after_cropping == pytest.approx(expected["size"])
    for i, channel in enumerate(expected["channels"]):
        assert found.foreground_intensity_properties_per_channel[str(i)] == pytest.approx(channel, rel=1e-9)


def test_equals_numpy(shared_raw_dataset: Path) -> None:
    found, failures = compute_fingerprint(RawDataset.open(shared_raw_dataset))
    assert failures == []
    assert_equals_numpy(found, shared_raw_dataset)


def test_equals_numpy_for_floats(raw_dataset: Path) -> None:
    random = np.random.default_rng(0)
    for path in (raw_dataset / "imagesTr").iterdir():
        array = load(path)
        write_image(path, np.where(array > 0, array + random.normal(size=array.shape), 0).astype(np.float32))
    found, _ = compute_fingerprint(RawDataset.open(raw_dataset))
    assert_equals_numpy(found, raw_dataset)


def test_case_records(shared_raw_dataset: Path) -> None:
    found, _ = compute_fingerprint(RawDataset.open(shared_raw_dataset))
    record = found.cases["case_001"]
    values, counts = np.unique(load(shared_raw_dataset / "labelsTr/case_001.nii.gz"), return_counts=True)
    assert record.label_voxels == dict(zip(values.tolist(), counts.tolist(), strict=True))
    assert (record.shape, record.spacing, record.orientation) == ((20, 24, 22), (1.0, 1.0, 1.0), "LPS")
    assert tuple(hi - lo for lo, hi in record.crop_box) == found.shapes_after_crop[1]
    assert len({one.content_hash for one in found.cases.values()}) == 4


def test_turned_images_are_measured_in_lps(tmp_path: Path) -> None:
    turned = (0.0, -1.0, 0.0, 0.0, 0.0, -1.0, 1.0, 0.0, 0.0)
    folder = make_raw_dataset(tmp_path, 2, direction=turned, spacing=(3.0, 2.0, 1.0))
    found, _ = compute_fingerprint(RawDataset.open(folder))
    image = sitk.DICOMOrient(sitk.ReadImage(str(folder / "imagesTr/case_000_0000.nii.gz")), "LPS")
    record = found.cases["case_000"]
    assert record.shape == image.GetSize()[::-1]
    assert record.spacing == image.GetSpacing()[::-1]
    assert record.label_volumes[2] == pytest.approx(6.0 * record.label_voxels[2])


def test_workers_change_nothing(shared_raw_dataset: Path, tmp_path: Path) -> None:
    raw = RawDataset.open(shared_raw_dataset)
    assert compute_fingerprint(raw, workers=2, cache=tmp_path / "f.json") == compute_fingerprint(raw)


def test_saved_and_loaded(shared_raw_dataset: Path, tmp_path: Path) -> None:
    found, _ = compute_fingerprint(RawDataset.open(shared_raw_dataset))
    found.save(tmp_path / "f.json")
    assert Fingerprint.load(tmp_path / "f.json") == found


def test_nnunets_own_file_loads(tmp_path: Path) -> None:
    statistics = dict.fromkeys(("max", "mean", "median", "min", "percentile_00_5", "percentile_99_5", "std"), 1.0)
    theirs = {
        "foreground_intensity_properties_per_channel": {"0": statistics},
        "median_relative_size_after_cropping": 0.5,
        "shapes_after_crop": [[1, 20, 30]],
        "spacings": [[999, 1, 1]],
    }
    (tmp_path / "f.json").write_text(json.dumps(theirs))
    assert Fingerprint.load(tmp_path / "f.json").spacings == ((999.0, 1.0, 1.0),)


def test_unknown_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "f.json").write_text('{"shape_after_crop": []}')
    with pytest.raises(BtsError, match="did you mean 'shapes_after_crop'"):
        Fingerprint.load(tmp_path / "f.json")


# The cache


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the cases that are really read."""
    names: list[str] = []
    original = case_tally.measure_case

    def spy(files, *arguments, **options):
        names.append(files.case)
        return original(files, *arguments, **options)

    monkeypatch.setattr(case_tally, "measure_case", spy)
    return names


def test_unchanged_cases_are_not_read_again(raw_dataset: Path, tmp_path: Path, measured: list[str]) -> None:
    raw, cache = RawDataset.open(raw_dataset), tmp_path / "out" / "dataset_fingerprint.json"
    first = compute_fingerprint(raw, cache=cache)
    assert len(measured) == 4
    assert compute_fingerprint(raw, cache=cache) == first
    assert len(measured) == 4


def test_touched_files_with_the_same_content_are_not_read_again(raw_dataset, tmp_path, measured) -> None:
    raw, cache = RawDataset.open(raw_dataset), tmp_path / "f.json"
    compute_fingerprint(raw, cache=cache)
    for path in (raw_dataset / "imagesTr").iterdir():
        os.utime(path, (1, 1))
    compute_fingerprint(raw, cache=cache)
    assert len(measured) == 4


def test_only_a_changed_or_new_case_is_read(raw_dataset: Path, tmp_path: Path, measured: list[str]) -> None:
    raw, cache = RawDataset.open(raw_dataset), tmp_path / "f.json"
    compute_fingerprint(raw, cache=cache)
    path = raw_dataset / "imagesTr/case_002_0001.nii.gz"
    write_image(path, load(path) * 2)
    found, _ = compute_fingerprint(raw, cache=cache)
    assert measured[4:] == ["case_002"]
    assert_equals_numpy(found, raw_dataset)


def test_other_settings_are_measured_anew(raw_dataset: Path, tmp_path: Path, measured: list[str]) -> None:
    raw, cache = RawDataset.open(raw_dataset), tmp_path / "f.json"
    compute_fingerprint(raw, cache=cache)
    compute_fingerprint(raw, cache=cache, nan_to_zero=True)
    assert len(measured) == 8


def test_damaged_cache_is_made_again(raw_dataset: Path, tmp_path: Path) -> None:
    raw, cache = RawDataset.open(raw_dataset), tmp_path / "f.json"
    first = compute_fingerprint(raw, cache=cache)
    (tmp_path / "f" / "case_000.json").write_text("{")
    (tmp_path / "f" / "case_001.npy").write_bytes(b"")
    assert compute_fingerprint(raw, cache=cache) == first


# Bad cases: each fails by name in one line, and the others are measured


def _nan(folder: Path) -> None:
    path = folder / "imagesTr/case_001_0000.nii.gz"
    array = load(path).astype(np.float32)
    array[3, 3, 3:5] = np.nan
    write_image(path, array)


def _rewrite(name: str, change: Callable[[np.ndarray], np.ndarray], **geometry) -> Callable[[Path], None]:
    return lambda folder: write_image(folder / name, change(load(folder / name)), **geometry) and None


IMAGE, MASK = "imagesTr/case_001_0000.nii.gz", "labelsTr/case_001.nii.gz"


def _unknown_label(mask: np.ndarray) -> np.ndarray:
    mask.flat[:12] = 7
    return mask


BAD = {
    "missing channel": (lambda f: (f / "imagesTr/case_001_0001.nii.gz").unlink(), "missing channel file case_001_0001"),
    "missing label": (lambda f: (f / MASK).unlink(), "missing label file case_001.nii.gz"),
    "extra channel": (
        lambda f: shutil.copy(f / IMAGE, f / "imagesTr/case_001_0002.nii.gz"),
        "3 channels where 2 are expected",
    ),
    "two formats": (
        lambda f: (f / "imagesTr/case_001_0001.nii").write_bytes(b"x"),
        "duplicate case: both case_001_0001.nii.gz and case_001_0001.nii",
    ),
    "unknown label": (_rewrite(MASK, _unknown_label), r"label value 7 \(12 voxels\) not in dataset.json"),
    "shape": (_rewrite(MASK, lambda a: a[1:]), r"size \(19, 24, 22\) against \(20, 24, 22\)"),
    "spacing": (_rewrite(MASK, lambda a: a, spacing=(1, 1, 2)), "spacing"),
    "origin": (_rewrite(MASK, lambda a: a, origin=(0, 9, 0)), "origin"),
    "direction": (_rewrite(MASK, lambda a: a, direction=(-1, 0, 0, 0, 1, 0, 0, 0, -1)), "direction"),
    "mixed orientation": (
        _rewrite(IMAGE, lambda a: a, direction=(-1, 0, 0, 0, -1, 0, 0, 0, 1)),
        "orientation LPS against RAS",
    ),
    "nan": (_nan, "2 NaN and 0 infinite voxels"),
    "empty": (lambda f: (f / IMAGE).write_bytes(b""), "is empty"),
    "truncated": (lambda f: (f / IMAGE).write_bytes((f / IMAGE).read_bytes()[:3000]), "is truncated"),
    "not nifti": (lambda f: (f / IMAGE).write_text("hello"), "is not a NIfTI file"),
    "all zero": (_rewrite(IMAGE, lambda a: a * 0), "every voxel is 0"),
    "flat": (
        lambda f: [write_image(f / n, load(f / n)[10:11]) for n in (IMAGE, "imagesTr/case_001_0001.nii.gz", MASK)],
        "is 2D",
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_case_is_named_and_the_others_go_on(raw_dataset: Path, fault: str) -> None:
    spoil, line = BAD[fault]
    spoil(raw_dataset)
    found, failures = compute_fingerprint(RawDataset.open(raw_dataset))
    (failure,) = failures
    assert failure.case == "case_001"
    with pytest.raises(AssertionError, match=line):
        raise AssertionError(failure.reason)
    assert "\n" not in failure.reason
    assert list(found.cases) == ["case_000", "case_002", "case_003"]


def test_nan_to_zero_goes_on(raw_dataset: Path) -> None:
    _nan(raw_dataset)
    _, failures = compute_fingerprint(RawDataset.open(raw_dataset), nan_to_zero=True)
    assert failures == []


def test_every_case_bad(raw_dataset: Path) -> None:
    for path in (raw_dataset / "labelsTr").iterdir():
        path.write_bytes(b"")
    found, failures = compute_fingerprint(RawDataset.open(raw_dataset))
    assert found.spacings == ()
    assert len(failures) == 4


def test_no_case_at_all(raw_dataset: Path) -> None:
    shutil.rmtree(raw_dataset / "imagesTr")
    shutil.rmtree(raw_dataset / "labelsTr")
    with pytest.raises(DataError, match="no image ends in"):
        compute_fingerprint(RawDataset.open(raw_dataset))


def test_case_without_foreground_is_no_failure(raw_dataset: Path) -> None:
    path = raw_dataset / MASK
    write_image(path, load(path) * 0)
    found, failures = compute_fingerprint(RawDataset.open(raw_dataset))
    assert failures == []
    assert found.cases["case_001"].label_voxels == {0: 20 * 24 * 22}


def test_same_files_under_two_names_are_warned_of(raw_dataset: Path) -> None:
    for path in sorted(raw_dataset.rglob("case_000*")):
        shutil.copy(path, path.with_name(path.name.replace("case_000", "copied")))
    listener = Listener()
    found, failures = compute_fingerprint(RawDataset.open(raw_dataset), observer=listener)
    assert failures == []
    assert len(found.cases) == 5
    assert any("duplicate case: copied has the very files of case_000" in line for line in listener.warnings)


def test_flat_dataset_of_rgb_images(tmp_path: Path) -> None:
    folder = tmp_path / "Dataset002_Flat"
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        pixels = random.integers(1, 255, size=(16, 18, 3), dtype=np.uint8)
        (folder / "imagesTr").mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), str(folder / f"imagesTr/{name}_0000.png"))
        write_image(
            folder / f"labelsTr/{name}.png", random.integers(0, 2, (16, 18), dtype=np.uint8), (1.0, 1.0), (0, 0)
        )
    write_dataset_json(folder, ("R", "G", "B"), {"background": 0, "a": 1}, 2, file_ending=".png")
    found, failures = compute_fingerprint(RawDataset.open(folder))
    assert failures == []
    assert found.spacings == ((999.0, 1.0, 1.0),) * 2
    assert found.shapes_after_crop == ((1, 16, 18),) * 2


@pytest.mark.real_data
def test_real_glioma_patients_as_nnunet_measures_them(real_data: Path) -> None:
    found, failures = compute_fingerprint(RawDataset.open(real_data / "Dataset021_BraTS2013"))
    theirs = Fingerprint.load(next((real_data / "nnunet_model").rglob("dataset_fingerprint.json")))
    assert failures == []
    assert found.spacings == theirs.spacings
    assert found.shapes_after_crop == theirs.shapes_after_crop
    assert found.median_relative_size_after_cropping == theirs.median_relative_size_after_cropping
    for channel, expected in theirs.foreground_intensity_properties_per_channel.items():
        mine = found.foreground_intensity_properties_per_channel[channel]
        assert (mine["min"], mine["max"]) == (expected["min"], expected["max"])
        # nnU-Net draws as many voxels from a small lesion as from a large one; ours weigh every voxel the same.
        assert mine["mean"] == pytest.approx(expected["mean"], rel=0.1)
        assert mine["percentile_99_5"] == pytest.approx(expected["percentile_99_5"], rel=0.1)


@pytest.mark.parametrize(("gone", "line"), [("imagesTr/case_001_0001", "channel"), ("labelsTr/case_001", "label")])
def test_a_missing_file_is_named_where_measurements_are_kept(tmp_path: Path, gone: str, line: str) -> None:
    raw = make_raw_dataset(tmp_path, n_cases=2)
    path = raw / f"{gone}.nii.gz"
    path.unlink()
    _, (failure,) = compute_fingerprint(RawDataset.open(raw), workers=1, cache=tmp_path / "fingerprint.json")
    assert f"missing {line} file {path.name}" in failure.reason

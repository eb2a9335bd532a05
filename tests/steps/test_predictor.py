"""A model that stays loaded, as a program uses it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk

import bts_auto
from bts_auto import steps
from bts_auto.data.readers import read_mask, read_volume
from bts_auto.errors import BtsError
from bts_auto.model.package import export_package
from tests.model.tiny import tiny_fold
from tests.predict.models import make_volume
from tests.predict.test_folder import OBLIQUE, write_case

HOW = {"engine": "torch", "precision": "fp32", "device": "cpu"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model package, a case on an oblique grid and the outputs of `bts_predict` for it."""
    where = tmp_path_factory.mktemp("predictor")
    export_package([tiny_fold(where / "results")], where / "model.zip")
    write_case(where / "in", "anna", spacing=(2.5, 0.9, 1.1), **OBLIQUE)
    steps.predict(where / "in", where / "out", model=where / "model.zip", save_probabilities=True, **HOW)
    return where


@pytest.fixture(scope="module")
def predictor(place):
    return bts_auto.Predictor(place / "model.zip", **HOW)


def paths(place):
    return sorted((place / "in").iterdir())


def test_files_give_the_mask_that_the_command_writes(place, predictor, tmp_path):
    found = predictor.predict(paths(place))
    written, geometry = read_mask(place / "out" / "anna.nii.gz")
    np.testing.assert_array_equal(found.mask, written)
    found.save(tmp_path / "mask.nrrd")
    assert read_mask(tmp_path / "mask.nrrd")[1].differences(geometry) == []


def test_a_volume_gives_the_same(place, predictor):
    volume = read_volume(paths(place), predictor.channels)
    np.testing.assert_array_equal(predictor.predict(volume).mask, predictor.predict(paths(place)).mask)


def test_an_array_with_its_spacing_gives_what_a_file_without_orientation_gives(predictor, tmp_path):
    volume = write_case(tmp_path, "bert", seed=4, spacing=(2.0, 1.0, 1.5))
    from_files = predictor.predict(sorted(tmp_path.iterdir()))
    from_array = predictor.predict(volume.array.astype(np.float64), spacing=(2.0, 1.0, 1.5))
    np.testing.assert_array_equal(from_array.mask, from_files.mask)
    assert from_array.volumes_ml == from_files.volumes_ml


def test_probabilities_and_uncertainty_lie_on_the_grid_of_the_scan(place, predictor):
    found = predictor.predict(paths(place), probabilities=True, uncertainty=True)
    assert list(found.probabilities) == ["background", "edema", "core"]
    stacked = np.stack(list(found.probabilities.values()))
    np.testing.assert_allclose(stacked.sum(0), 1, atol=1e-5)
    written = sitk.ReadImage(str(place / "out" / "probabilities" / "anna" / "2_core.nii.gz"))
    np.testing.assert_allclose(stacked[2], sitk.GetArrayFromImage(written), atol=1e-3)
    assert found.uncertainty.shape == found.mask.shape


@pytest.mark.parametrize(
    ("array", "spacing", "words"),
    [
        (np.ones((2, 9, 9, 9)), None, "needs its spacing"),
        (np.ones((2, 9, 9, 9)), (1, 0, 1), "needs its spacing"),
        (np.ones((2, 9, 9, 9)), "abc", "needs its spacing"),
        (np.ones((2, 9, 9, 9)), "111", "needs its spacing"),
        (np.ones((2, 9, 9, 9)), (1, 1, None), "needs its spacing"),
        (np.ones((3, 9, 9, 9)), (1, 1, 1), r"3 channels where 2 are expected \(T1, FLAIR\)"),
        (np.ones((9, 9, 9)), (1, 1, 1), "1 channel where"),
        (np.ones((9, 9)), (1, 1, 1), "no scan"),
        (np.full((2, 9, 9, 9), np.nan), (1, 1, 1), "NaN"),
        (np.zeros((2, 9, 9, 9)), (1, 1, 1), "every voxel is 0"),
        (np.stack([np.ones((9, 9, 9)), np.zeros((9, 9, 9))]), (1, 1, 1), r"every voxel of channel 1 \(FLAIR\) is 0"),
    ],
)
def test_arrays_that_are_no_scan_are_refused(predictor, array, spacing, words):
    with pytest.raises(BtsError, match=words):
        predictor.predict(array, spacing=spacing)


def test_a_folder_and_a_volume_of_other_channels_are_refused(place, predictor):
    with pytest.raises(BtsError, match="is a folder"):
        predictor.predict(place / "in")
    volume = make_volume()
    one = type(volume)(volume.array[:1], volume.geometry, ("FLAIR",))
    with pytest.raises(BtsError, match="1 channel where"):
        predictor.predict(one)


@pytest.mark.parametrize(("value", "words"), [(np.nan, "NaN"), (0.0, "every voxel of channel 1")])
def test_volumes_that_are_no_scan_are_refused(predictor, value, words):
    volume = make_volume()
    volume.array[1] = value
    with pytest.raises(BtsError, match=words):
        predictor.predict(volume)


def test_what_is_neither_files_nor_voxels_is_refused(predictor):
    with pytest.raises(BtsError, match="a float is no scan"):
        predictor.predict(1.5)


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, bts_auto; print([m for m in ('torch', 'numpy', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_has_no_other_attribute():
    with pytest.raises(AttributeError, match="Predictors"):
        _ = bts_auto.Predictors


def test_voxels_far_from_the_training_datas_are_remarked_on(predictor, tmp_path):
    usual, far = (write_case(tmp_path / name, name, spacing=s) for name, s in (("a", (1, 1, 1)), ("b", (12, 1, 1))))
    assert predictor.predict(usual).remarks == ()
    (remark,) = predictor.predict(far).remarks
    assert "voxels of" in remark

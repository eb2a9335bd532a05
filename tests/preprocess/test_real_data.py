"""One real patient, against what nnU-Net v2 makes of it.

The numbers were taken from nnU-Net 2.8.1's own preprocessed files of BraTS13_pat0003 (plan at 1 GB), and for 3d_lowres
from its resampling function applied to them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bts_auto.data.raw import RawDataset
from bts_auto.data.readers import read_mask, read_volume
from bts_auto.preprocess.prepare import Prepared, prepare_all
from bts_auto.preprocess.store import CaseStore
from tests.preprocess.helpers import make_configuration, make_plan

pytestmark = pytest.mark.real_data

LOWRES_SPACING = 1.4685337134515648
VOXELS = {
    "3d_fullres": {1: 1252, 2: 148264, 3: 3162, 4: 21250, 0: 1516662, -1: 1600250},
    "3d_lowres": {1: 365, 2: 46481, 3: 913, 4: 6772, 0: 477166, -1: 502853},
}
VALUES = {
    "3d_fullres": {
        (70, 80, 73): (-0.7055595517158508, 1.482866883277893),
        (30, 60, 50): (-1.0854889154434204, 0.20871369540691376),
        (100, 120, 100): (0.12705154716968536, -0.06791166216135025),
        (0, 0, 0): (0.0, 0.0),
    },
    "3d_lowres": {
        (47, 55, 50): (-1.1954578161239624, 5.66404914855957),
        (20, 40, 34): (-0.9140092730522156, 1.173112392425537),
        (68, 82, 68): (0.058769043534994125, -0.053748805075883865),
    },
}
SQUARES = {
    "3d_fullres": (1690590.0747188763, 1690589.8853146923),
    "3d_lowres": (518878.742288045, 519758.7205100175),
}


@pytest.fixture(scope="module")
def patient(real_data: Path) -> tuple[dict[str, Prepared], np.ndarray]:
    raw = RawDataset.open(real_data / "Dataset021_BraTS2013")
    files = raw.training_cases()["BraTS13_pat0003"]
    assert files.mask is not None
    mask, _ = read_mask(files.mask)
    spacings = {"3d_fullres": (1.0,) * 3, "3d_lowres": (LOWRES_SPACING,) * 3}
    plan = make_plan({name: make_configuration(spacing) for name, spacing in spacings.items()})
    wanted = [plan.configuration(name) for name in spacings]
    made = prepare_all(read_volume(files.images, raw.channels), plan, wanted, mask)
    return dict(zip(spacings, made, strict=True)), mask


@pytest.mark.parametrize("name", ["3d_fullres", "3d_lowres"])
def test_labels_are_those_of_nnunet(patient: tuple[dict[str, Prepared], np.ndarray], name: str) -> None:
    found = patient[0][name].mask
    assert found is not None
    values, counts = np.unique(found, return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == VOXELS[name]


@pytest.mark.parametrize("name", ["3d_fullres", "3d_lowres"])
def test_intensities_are_those_of_nnunet(patient: tuple[dict[str, Prepared], np.ndarray], name: str) -> None:
    image = patient[0][name].image
    for voxel, expected in VALUES[name].items():
        np.testing.assert_allclose(image[(slice(None), *voxel)], expected, atol=2e-5)
    np.testing.assert_allclose((image.astype(np.float64) ** 2).sum(axis=(1, 2, 3)), SQUARES[name], rtol=1e-6)


def test_the_store_keeps_it_in_half_precision(patient: tuple[dict[str, Prepared], np.ndarray], tmp_path: Path) -> None:
    prepared, mask = patient[0]["3d_fullres"], patient[1]
    CaseStore(tmp_path).write("BraTS13_pat0003", prepared)
    case = CaseStore(tmp_path).open("BraTS13_pat0003")
    assert case.image.dtype == np.float16
    assert np.abs(case.image[:] - prepared.image).max() < 5e-3
    np.testing.assert_array_equal(case.steps.undo(case.mask[:].clip(0)), mask)

"""Cases that are like the training cases and cases that are not: made-up ones, and four real patients."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from bts_auto.data.likeness import CaseLook, TrainingLook, divergence
from bts_auto.data.phantom import SEQUENCES, make_phantom
from bts_auto.data.readers import read_volume
from bts_auto.data.volume import Geometry, Volume

SHAPE = (36, 44, 36)


@lru_cache
def _scan(seed: int, spacing: float = 4.0) -> Volume:
    phantom = make_phantom(seed, SHAPE)
    return Volume(phantom.images, Geometry(SHAPE, (spacing,) * 3), SEQUENCES)


@pytest.fixture(scope="module")
def training() -> TrainingLook:
    found = TrainingLook.of([CaseLook.of(_scan(seed)) for seed in range(6)], SEQUENCES)
    assert found is not None
    return found


def _changed(volume: Volume, array: np.ndarray) -> CaseLook:
    return CaseLook.of(replace(volume, array=np.ascontiguousarray(array, dtype=np.float32)))


def test_the_divergence_is_scipy_s() -> None:
    p, q = np.random.default_rng(0).dirichlet(np.ones(20), 2)
    assert divergence(p, q) == pytest.approx(jensenshannon(p, q, base=2) ** 2)
    assert divergence(p, p) == 0
    assert divergence(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == 1


def test_other_patients_are_like_training(training: TrainingLook) -> None:
    assert [training.remarks(CaseLook.of(_scan(seed))) for seed in range(100, 104)] == [[]] * 4


def test_the_scale_of_intensities_does_not_matter(training: TrainingLook) -> None:
    volume = _scan(100)
    scaled = volume.array * np.array([0.1, 3.0, 20.0, 1.0], np.float32)[:, None, None, None]
    assert training.remarks(_changed(volume, scaled)) == []


def test_exchanged_channels_are_named(training: TrainingLook) -> None:
    volume = _scan(100)
    remarks = training.remarks(_changed(volume, volume.array[[0, 1, 3, 2]]))
    assert "T2 and FLAIR look exchanged" in remarks


def test_another_contrast_is_named(training: TrainingLook) -> None:
    volume = _scan(100)
    array = volume.array.copy()
    array[3][array[3] != 0] = array[3].max() + 1 - array[3][array[3] != 0]
    (remark,) = training.remarks(_changed(volume, array))
    assert "intensities of" in remark
    assert "FLAIR" in remark


def test_voxels_and_heads_of_another_size_are_named(training: TrainingLook) -> None:
    remarks = training.remarks(CaseLook.of(_scan(100, spacing=8.0)))
    assert sum("voxels 8 mm" in one for one in remarks) == 3
    assert sum("the head measures" in one for one in remarks) == 3


def test_axes_are_compared_however_a_scan_is_stored(training: TrainingLook) -> None:
    volume = _scan(100)
    stored = np.ascontiguousarray(volume.array.transpose(0, 3, 2, 1)[:, ::-1])
    geometry = Geometry(stored.shape[1:], (4.0,) * 3, direction=(0, 0, 1, 0, -1, 0, 1, 0, 0))
    turned = CaseLook.of(Volume(stored, geometry, SEQUENCES))
    assert turned.size == CaseLook.of(volume).size
    assert training.remarks(turned) == []


def test_one_case_has_nothing_to_be_compared_with() -> None:
    assert TrainingLook.of([CaseLook.of(_scan(0))], SEQUENCES) is None


def test_one_channel_is_compared_alone() -> None:
    def one(seed: int) -> CaseLook:
        return CaseLook.of(Volume(_scan(seed).array[:1], Geometry(SHAPE, (4.0,) * 3), SEQUENCES[:1]))

    found = TrainingLook.of([one(seed) for seed in range(5)], SEQUENCES[:1])
    assert found is not None
    assert found.remarks(one(100)) == []


def test_what_is_known_of_training_survives_json(training: TrainingLook) -> None:
    assert TrainingLook.model_validate_json(training.model_dump_json()) == training


def test_real_patients_are_like_each_other_until_their_channels_are_exchanged(real_data) -> None:
    folder = real_data / "Dataset021_BraTS2013" / "imagesTr"
    names = ("FLAIR", "T1c")
    volumes = [
        read_volume([folder / f"BraTS13_pat000{n}_000{channel}.nii.gz" for channel in (0, 1)], names) for n in "3456"
    ]
    looks = [CaseLook.of(volume) for volume in volumes]
    for number in range(4):
        known = TrainingLook.of(looks[:number] + looks[number + 1 :], names)
        assert known is not None
        assert known.remarks(looks[number]) == []
        # Exchanged channels are a joint histogram with its axes swapped.
        swapped = replace(looks[number], joint={(0, 1): looks[number].joint[0, 1].T})
        assert known.remarks(swapped) == ["FLAIR and T1c look exchanged"]

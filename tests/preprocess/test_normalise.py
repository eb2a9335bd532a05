"""Normalisation schemes, against their formulas in float64."""

from __future__ import annotations

import numpy as np
import pytest

from bts_auto import registry
from bts_auto.errors import DataError, PlanError
from bts_auto.preprocess.normalise import normalise
from tests.preprocess.helpers import STATISTICS

IMAGE = np.random.default_rng(0).uniform(0, 255, size=(6, 7, 8)).astype(np.float32)
MASK = np.random.default_rng(1).random((6, 7, 8)) > 0.3


def apply(name: str, array: np.ndarray = IMAGE, mask: np.ndarray | None = None) -> np.ndarray:
    return registry.component("normaliser", name)(array.copy(), mask, STATISTICS)


def test_z_score() -> None:
    exact = IMAGE.astype(np.float64)
    np.testing.assert_allclose(apply("ZScoreNormalization"), (exact - exact.mean()) / exact.std(), atol=1e-5)


def test_z_score_inside_a_mask_leaves_the_rest() -> None:
    exact = IMAGE.astype(np.float64)
    found = apply("ZScoreNormalization", mask=MASK)
    np.testing.assert_allclose(found[MASK], ((exact - exact[MASK].mean()) / exact[MASK].std())[MASK], atol=1e-5)
    np.testing.assert_array_equal(found[~MASK], IMAGE[~MASK])


@pytest.mark.parametrize("name", registry.names("normaliser"))
def test_a_constant_stays_finite(name: str) -> None:
    assert np.isfinite(apply(name, np.full((3, 3, 3), 7, np.float32))).all()


def test_ct_uses_the_dataset() -> None:
    expected = (np.clip(IMAGE.astype(np.float64), 100, 600) - 350) / 60
    np.testing.assert_allclose(apply("CTNormalization"), expected, atol=1e-5)


def test_no_normalisation() -> None:
    np.testing.assert_array_equal(apply("NoNormalization"), IMAGE)


def test_rescale() -> None:
    found = apply("RescaleTo01Normalization", IMAGE + 20)
    assert (float(found.min()), float(found.max())) == (0, 1)


def test_rgb() -> None:
    np.testing.assert_allclose(apply("RGBTo01Normalization"), IMAGE / 255, rtol=1e-6)


@pytest.mark.parametrize("shift", [-10, 10])
def test_rgb_refuses_other_ranges(shift: int) -> None:
    with pytest.raises(DataError, match="0 to 255"):
        apply("RGBTo01Normalization", np.linspace(0, 255, 27, dtype=np.float32).reshape(3, 3, 3) + shift)


def test_each_channel_has_its_scheme_and_mask() -> None:
    found = normalise(
        np.stack([IMAGE, IMAGE, IMAGE]),
        MASK,
        ["ZScoreNormalization", "ZScoreNormalization", "NoNormalization"],
        [True, False, True],
        {},
    )
    np.testing.assert_array_equal(found[0], apply("ZScoreNormalization", mask=MASK))
    np.testing.assert_array_equal(found[1], apply("ZScoreNormalization"))
    np.testing.assert_array_equal(found[2], IMAGE)


def test_unknown_scheme_and_wrong_number() -> None:
    with pytest.raises(PlanError, match="did you mean 'ZScoreNormalization'"):
        normalise(IMAGE[None].copy(), None, ["ZScoreNormalisation"], [False], {})
    with pytest.raises(DataError, match="1 channels"):
        normalise(IMAGE[None].copy(), None, [], [], {})

"""Joined statistics against NumPy on all voxels at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bts_auto.data.statistics import Tally, summarise

WHOLE = hnp.arrays(np.float32, st.integers(0, 60), elements=st.integers(-500, 3000).map(float))
BROKEN = hnp.arrays(np.float32, st.integers(0, 60), elements=st.floats(-1e6, 1e6, width=32))


def assert_as_numpy(parts: list[np.ndarray]) -> None:
    found = summarise([Tally.of(part) for part in parts])
    voxels = np.concatenate(parts).astype(np.float64)
    assert found["percentile_00_5"] == pytest.approx(np.percentile(voxels, 0.5), rel=1e-12, abs=1e-9)
    assert found["median"] == pytest.approx(np.median(voxels), rel=1e-12, abs=1e-9)
    assert found["percentile_99_5"] == pytest.approx(np.percentile(voxels, 99.5), rel=1e-12, abs=1e-9)
    assert (found["min"], found["max"]) == (voxels.min(), voxels.max())
    assert found["mean"] == pytest.approx(voxels.mean(), rel=1e-9, abs=1e-6)
    assert found["std"] == pytest.approx(voxels.std(), rel=1e-7, abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.lists(WHOLE | BROKEN, min_size=1, max_size=5).filter(lambda parts: any(len(part) for part in parts)))
def test_as_numpy_on_all_voxels(parts: list[np.ndarray]) -> None:
    assert_as_numpy(parts)


def test_many_float_voxels() -> None:
    random = np.random.default_rng(0)
    assert_as_numpy([random.normal(i, 3, size=20_000).astype(np.float32) for i in range(4)])


def test_large_offsets_keep_the_deviation() -> None:
    random = np.random.default_rng(1)
    assert_as_numpy([(1e6 + random.integers(0, 5, size=5000)).astype(np.float32) for _ in range(3)])


def test_no_voxel_at_all() -> None:
    found = summarise([Tally.of(np.empty(0, np.float32))])
    assert set(found.values()) == {0.0}
    assert set(found) == {"max", "mean", "median", "min", "percentile_00_5", "percentile_99_5", "std"}

"""The non-zero mask against SciPy, and the box around it."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from bts_auto.data.crop import bounding_box, nonzero_mask

ARRAYS = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=4, max_dims=4, max_side=7), elements=st.sampled_from([0, 0, 1])
)


@settings(max_examples=80, deadline=None)
@given(ARRAYS)
def test_mask_is_scipys_filled_union(array: np.ndarray) -> None:
    np.testing.assert_array_equal(nonzero_mask(array), ndimage.binary_fill_holes((array != 0).any(axis=0)))


def test_enclosed_hole_is_filled_and_open_one_is_not() -> None:
    array = np.zeros((1, 7, 7, 7), np.float32)
    array[0, 1:6, 1:6, 1:6] = 1
    array[0, 2, 2, 2] = 0
    array[0, 4:, 4, 4] = 0
    mask = nonzero_mask(array)
    assert mask[2, 2, 2]
    assert not mask[4, 4, 4]


def test_fallback_without_cc3d_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    array = (np.random.default_rng(3).random((1, 9, 9, 9)) < 0.7).astype(np.float32)
    expected = nonzero_mask(array)
    monkeypatch.setitem(sys.modules, "cc3d", None)
    np.testing.assert_array_equal(nonzero_mask(array), expected)


@settings(max_examples=80, deadline=None)
@given(hnp.arrays(bool, hnp.array_shapes(min_dims=1, max_dims=3, max_side=8)))
def test_box_holds_all_and_is_tight(mask: np.ndarray) -> None:
    box = bounding_box(mask)
    if not mask.any():
        assert box == tuple(slice(0, n) for n in mask.shape)
        return
    found = np.argwhere(mask)
    assert box == tuple(slice(lo, hi + 1) for lo, hi in zip(found.min(0), found.max(0), strict=True))

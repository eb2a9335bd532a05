"""Label maps beside prepared cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bts_auto.errors import DataError
from bts_auto.preprocess.masks import MaskStore

SHAPE = (9, 11, 10)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    mask = np.random.default_rng(3).integers(0, 4, SHAPE)
    masks = MaskStore(tmp_path_factory.mktemp("masks"))
    masks.write("case", mask, patch_size=(4, 4, 4), record={"fold": 2})
    return masks, mask


def test_a_whole_map_comes_back(stored):
    masks, mask = stored
    np.testing.assert_array_equal(masks.whole("case"), mask)
    assert masks.record("case") == {"fold": 2}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(-6, 14), st.integers(1, 9)), min_size=3, max_size=3))
def test_a_part_is_padded_outside_the_volume(stored, corners):
    masks, mask = stored
    box = [(low, low + size) for low, size in corners]
    padded = np.pad(mask, 20, constant_values=-1)
    expected = padded[tuple(slice(low + 20, high + 20) for low, high in box)]
    np.testing.assert_array_equal(masks.read("case", box), expected)


def test_a_later_map_takes_the_place_of_an_older_one(tmp_path):
    masks = MaskStore(tmp_path)
    for value in (1, 2):
        masks.write("case", np.full(SHAPE, value), record={"value": value})
    assert (masks.whole("case") == 2).all()
    assert masks.record("case") == {"value": 2}


def test_a_missing_map_is_named(tmp_path):
    assert MaskStore(tmp_path).record("lost") is None
    with pytest.raises(DataError, match="lost"):
        MaskStore(tmp_path).whole("lost")

"""Foreground voxels that are kept."""

from __future__ import annotations

import numpy as np

from bts_auto.data.labels import Labels
from bts_auto.preprocess.foreground import ANNOTATED, foreground_voxels, pack, unpack

PLAIN = Labels({"background": (0,), "a": (1,), "b": (2,)})
REGIONS = Labels({"background": (0,), "whole": (1, 2), "core": (2,)}, regions_class_order=(1, 2))


def small_mask() -> np.ndarray:
    mask = np.full((6, 7, 8), -1, np.int16)
    mask[1:5, 1:6, 1:7] = 0
    mask[2:4, 2:5, 2:6] = 1
    mask[2, 2, 2] = 2
    return mask


def test_every_voxel_of_a_small_label_is_kept() -> None:
    mask = small_mask()
    found = foreground_voxels(mask, PLAIN, "case")
    assert set(found) == {1, 2}
    for label, indices in found.items():
        np.testing.assert_array_equal(indices, np.flatnonzero(mask == label))


def test_regions_are_kept_beside_their_labels() -> None:
    mask = small_mask()
    found = foreground_voxels(mask, REGIONS, "case")
    assert set(found) == {1, 2, "whole", "core"}
    np.testing.assert_array_equal(found["whole"], np.flatnonzero(mask > 0))


def test_annotated_voxels_are_kept_where_labels_can_be_ignored() -> None:
    mask = small_mask()
    mask[4, 4, 4] = 3
    labels = Labels(PLAIN.values, ignore=3)
    found = foreground_voxels(mask, labels, "case")
    assert set(found) == {1, 2, ANNOTATED}
    np.testing.assert_array_equal(found[ANNOTATED], np.flatnonzero(mask != 3))


def test_large_labels_are_drawn_by_case() -> None:
    mask = np.ones((120, 120, 120), np.int8)
    found = foreground_voxels(mask, PLAIN, "case")[1]
    assert len(found) == np.ceil(mask.size * 0.01)
    assert len(np.unique(found)) == len(found)
    np.testing.assert_array_equal(found, foreground_voxels(mask, None, "case")[1])
    assert not np.array_equal(found, foreground_voxels(mask, PLAIN, "other")[1])


def test_ten_thousand_are_kept_of_what_is_between() -> None:
    assert len(foreground_voxels(np.ones((30, 30, 30), np.int8), None, "case")[1]) == 10000


def test_no_foreground() -> None:
    assert foreground_voxels(np.zeros((3, 3, 3), np.int8), PLAIN, "case") == {}


def test_packing_is_undone() -> None:
    mask = small_mask()
    found = foreground_voxels(mask, REGIONS, "case")
    joined, table = pack(found, mask.size)
    assert joined.dtype == np.uint32
    back = unpack(joined, table, mask.shape)
    assert list(back) == list(found)
    for key, voxels in back.items():
        np.testing.assert_array_equal(np.ravel_multi_index(voxels.T, mask.shape), found[key])
    assert unpack(*pack({}, 5), (5, 1, 1)) == {}

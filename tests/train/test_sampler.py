"""Which case and which position."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bts_auto.preprocess.foreground import ANNOTATED
from bts_auto.train.sampler import CaseInfo, bounds, draw_sample, is_forced

VOXELS = {1: np.array([[3, 4, 5]]), 2: np.array([[10, 11, 12], [13, 14, 15]]), 3: np.zeros((0, 3), int)}
FULL = CaseInfo("full", (20, 24, 28), VOXELS)
EMPTY = CaseInfo("empty", (20, 24, 28), {})


def draw(step: int = 0, index: int = 1, cases=(FULL,), oversample: float = 0.33, patch=(8, 8, 8), **options):
    return draw_sample(7, step, index, cases, 2, oversample, patch, **options)


def test_same_numbers_give_the_same_position() -> None:
    assert [draw(step) for step in range(20)] == [draw(step) for step in range(20)]


def test_other_steps_samples_and_seeds_give_other_positions() -> None:
    positions = {draw(step, index, oversample=0).lower for step in range(20) for index in range(2)}
    positions |= {draw_sample(8, step, 0, (FULL,), 2, 0, (8, 8, 8)).lower for step in range(20)}
    assert len(positions) > 50


@pytest.mark.parametrize(
    ("batch_size", "share", "forced"),
    [(2, 0.33, [1]), (4, 0.33, [3]), (5, 0.33, [3, 4]), (12, 0.33, [8, 9, 10, 11]), (2, 0.0, []), (2, 1.0, [0, 1])],
)
def test_last_samples_of_a_batch_are_forced(batch_size: int, share: float, forced: list[int]) -> None:
    assert [index for index in range(batch_size) if is_forced(index, batch_size, share)] == forced


def test_cases_are_drawn_uniformly() -> None:
    cases = [CaseInfo(str(n), (20, 24, 28), {}) for n in range(4)]
    counts = Counter(draw(step, cases=cases).case for step in range(2000))
    assert all(abs(count - 500) < 4 * np.sqrt(500) for count in counts.values())
    assert len(counts) == 4


def test_weights_decide_how_often_a_case_is_drawn() -> None:
    cases = [CaseInfo(str(n), (20, 24, 28), {}) for n in range(3)]
    counts = Counter(draw(step, cases=cases, weights=(1, 0, 3)).case for step in range(2000))
    assert counts["1"] == 0
    assert abs(counts["2"] - 1500) < 4 * np.sqrt(375)


def test_classes_present_are_drawn_uniformly_whatever_their_size() -> None:
    counts = Counter(draw(step).label for step in range(2000))
    assert set(counts) == {1, 2}
    assert abs(counts[1] - 1000) < 4 * np.sqrt(500)


def test_declared_regions_are_the_classes() -> None:
    case = CaseInfo("regions", (20, 24, 28), VOXELS | {"WT": VOXELS[2], "ET": VOXELS[1]})
    assert {draw(step, cases=(case,)).label for step in range(50)} == {"WT", "ET"}


def test_forced_patch_is_centred_on_a_voxel_of_the_class() -> None:
    for step in range(30):
        position = draw(step, patch=(4, 4, 4))
        centre = [low + 2 for low in position.lower]
        assert centre in VOXELS[position.label].tolist()


def test_lower_border_is_respected_and_upper_is_not() -> None:
    case = CaseInfo("corner", (20, 20, 20), {1: np.array([[1, 19, 10]])})
    assert draw(cases=(case,)).lower == (0, 15, 6)


def test_case_without_foreground_falls_to_a_patch_anywhere() -> None:
    position = draw(cases=(EMPTY,))
    assert position.forced_foreground
    assert position.label is None


def test_patches_anywhere_reach_every_corner_and_stay_inside() -> None:
    lowers = np.array([draw(step, index=0).lower for step in range(1500)])
    assert lowers.min(0).tolist() == [0, 0, 0]
    assert lowers.max(0).tolist() == [12, 16, 20]


def test_ignore_label_keeps_unforced_patches_at_annotated_voxels() -> None:
    case = CaseInfo("partly", (20, 24, 28), VOXELS | {ANNOTATED: np.array([[9, 9, 9]])})
    position = draw(index=0, cases=(case,), has_ignore=True)
    assert (position.label, position.lower) == (ANNOTATED, (5, 5, 5))


def test_annotated_voxels_are_no_class_unless_there_is_no_other() -> None:
    case = CaseInfo("partly", (20, 24, 28), VOXELS | {ANNOTATED: np.array([[9, 9, 9]])})
    assert ANNOTATED not in {draw(step, cases=(case,), has_ignore=True).label for step in range(50)}
    only = CaseInfo("background", (20, 24, 28), {ANNOTATED: np.array([[9, 9, 9]])})
    assert draw(cases=(only,), has_ignore=True).label == ANNOTATED


def test_two_dimensional_patches_choose_a_slice_likewise() -> None:
    forced = draw(patch=(8, 8))
    assert forced.size == (1, 8, 8)
    assert forced.lower[0] in VOXELS[forced.label][:, 0]
    slices = {draw(step, index=0, patch=(8, 8)).lower[0] for step in range(400)}
    assert slices == set(range(20))


@given(shape=st.integers(1, 60), size=st.integers(1, 60))
def test_short_cases_are_centred(shape: int, size: int) -> None:
    low, high = bounds(shape, size)
    if shape >= size:
        assert (low, high) == (0, shape - size)
    else:
        assert low + high == -(size - shape)
        assert high - low <= 1

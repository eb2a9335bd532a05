"""Each post-processing rule by what it is for."""

from __future__ import annotations

import numpy as np
import pytest

from bts_auto.data.labels import Labels
from bts_auto.errors import PlanError
from bts_auto.plan.schema import Component
from bts_auto.postprocess.context import Context, apply_rules

PLAIN = Labels.from_dataset({"labels": {"background": 0, "necrosis": 1, "edema": 2, "enhancing": 3}})
REGIONS = Labels.from_dataset(
    {
        "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]},
        "regions_class_order": [1, 2, 3],
    }
)
SHAPE = (16, 18, 20)
EDEMA, NECROSIS, ENHANCING = 2, 1, 3


def _tumour() -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:12, 2:12, 2:12] = EDEMA
    mask[4:10, 4:10, 4:10] = ENHANCING
    mask[6:8, 6:8, 6:8] = NECROSIS
    return mask


def _apply(mask: np.ndarray, name: str, labels: Labels = PLAIN, *, spacing=(1.0, 1.0, 1.0), given=None, **options):
    context = Context(labels, spacing, **(given or {}))
    return apply_rules(mask, [Component(name=name, options=options)], context)


def _changed(before: np.ndarray, after: np.ndarray) -> list[tuple[int, ...]]:
    return [tuple(int(i) for i in at) for at in np.argwhere(before != after)]


def test_a_rule_finds_declared_regions_by_their_short_names() -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:8, 2:8, 2:8] = 1
    mask[3:5, 3:5, 3:5] = 2
    mask[4, 4, 4] = 3
    after = _apply(mask, "small_region", REGIONS, region="ET", voxels=2)
    assert _changed(mask, after) == [(4, 4, 4)]
    assert after[4, 4, 4] == 2


def test_keep_largest_of_all_foreground() -> None:
    mask = _tumour()
    mask[14, 15, 15:18] = ENHANCING
    np.testing.assert_array_equal(_apply(mask, "keep_largest"), _tumour())


def test_keep_largest_of_one_region_leaves_the_others() -> None:
    mask = _tumour()
    mask[14, 15, 15] = EDEMA
    mask[14, 15, 17] = ENHANCING
    after = _apply(mask, "keep_largest", region="ET")
    assert _changed(mask, after) == [(14, 15, 17)]


def test_components_that_touch_at_a_corner_are_one_or_two_by_the_connectivity() -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:4, 2:4, 2:4] = EDEMA
    mask[4, 4, 4] = EDEMA
    assert _changed(mask, _apply(mask, "keep_largest", connectivity=26)) == []
    assert _changed(mask, _apply(mask, "keep_largest", connectivity=6)) == [(4, 4, 4)]


@pytest.mark.parametrize(("options", "stays"), [({"voxels": 3}, True), ({"voxels": 4}, False), ({"ml": 0.006}, True)])
def test_minimum_size_counts_voxels_or_ml(options: dict[str, float], stays: bool) -> None:
    mask = _tumour()
    mask[14, 15, 15:18] = ENHANCING  # 3 voxels of 2 mm3
    after = _apply(mask, "minimum_size", spacing=(2.0, 1.0, 1.0), **options)
    assert (after[14, 15, 16] == ENHANCING) == stays


@pytest.mark.parametrize("options", [{}, {"voxels": 3, "ml": 1.0}])
def test_a_size_is_given_in_one_unit(options: dict[str, float]) -> None:
    with pytest.raises(PlanError, match="either 'voxels' or 'ml'"):
        _apply(_tumour(), "minimum_size", **options)


def test_small_enhancing_tumour_becomes_necrosis() -> None:
    mask = _tumour()
    n_enhancing = int((mask == ENHANCING).sum())
    after = _apply(mask, "small_region", voxels=n_enhancing + 1)
    np.testing.assert_array_equal(after, np.where(mask == ENHANCING, NECROSIS, mask))
    np.testing.assert_array_equal(_apply(mask, "small_region", voxels=n_enhancing), mask)


def test_small_enhancing_tumour_of_declared_regions_becomes_the_region_around_it() -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:8, 2:8, 2:8] = 1
    mask[3:6, 3:6, 3:6] = 2
    mask[4, 4, 4] = 3
    after = _apply(mask, "small_region", REGIONS, region="enhancing", voxels=10)
    np.testing.assert_array_equal(after, np.where(mask == 3, 2, mask))


def _probabilities(mask: np.ndarray, labels: Labels, second: int) -> np.ndarray:
    """Certain of `mask`, with label `second` as the next likely everywhere."""
    scores = np.stack([np.isin(mask, members) * 0.6 for members in labels.members()])
    scores[second] += 0.3
    return scores.astype(np.float32)


def test_removed_voxels_become_the_next_likely_label() -> None:
    mask = _tumour()
    given = {"probabilities": _probabilities(mask, PLAIN, second=EDEMA)}
    after = _apply(mask, "small_region", given=given, becomes="next", voxels=10_000)
    np.testing.assert_array_equal(after, np.where(mask == ENHANCING, EDEMA, mask))


def test_next_likely_needs_probabilities() -> None:
    with pytest.raises(PlanError, match="probabilities"):
        _apply(_tumour(), "small_region", becomes="next", voxels=10_000)


def test_holes_get_the_label_around_them() -> None:
    mask = _tumour()
    mask[5, 5, 5] = mask[3, 3, 3] = 0
    np.testing.assert_array_equal(_apply(mask, "fill_holes"), _tumour())


def test_holes_of_a_region_get_the_stated_label_and_other_labels_stay() -> None:
    mask = _tumour()
    mask[5, 5, 5] = 0
    after = _apply(mask, "fill_holes", region="ET", label="necrosis")
    assert _changed(mask, after) == [(5, 5, 5)]
    assert after[5, 5, 5] == NECROSIS


def test_a_tunnel_is_a_hole_only_within_slices() -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:8, 2:8, 2:8] = EDEMA
    mask[2:8, 4, 4] = 0
    assert _changed(mask, _apply(mask, "fill_holes")) == []
    assert len(_changed(mask, _apply(mask, "fill_holes", in_slices=True))) == 6


def test_opening_removes_what_is_thinner_than_the_ball() -> None:
    mask = _tumour()
    mask[7, 7, 12:18] = EDEMA
    after = _apply(mask, "morphology", operation="open", radius_mm=1.0)
    assert (after[7, 7, 13:18] == 0).all()
    np.testing.assert_array_equal(after[4:10, 4:10, 4:10], mask[4:10, 4:10, 4:10])


def test_closing_fills_gaps_with_the_nearest_label_also_at_the_edge() -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[0:8, 0:8, 0:8] = EDEMA
    mask[0:8, 0:8, 4] = 0
    after = _apply(mask, "morphology", operation="close", radius_mm=2.0)
    assert (after[1:7, 1:7, 4] == EDEMA).all()
    assert (after[mask != 0] == EDEMA).all()


@pytest.mark.parametrize("operation", ["open", "close"])
def test_morphology_respects_the_spacing(operation: str) -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[4:5, 4:10, 4:10] = EDEMA  # one slice, 5 mm thick: a ball of 2 mm is flat
    after = _apply(mask, "morphology", operation=operation, radius_mm=2.0, spacing=(5.0, 1.0, 1.0))
    assert (after[4, 6:8, 6:8] == EDEMA).all()
    assert not after[3].any()


def test_nesting_takes_inner_regions_away_outside_their_outer_ones() -> None:
    probabilities = np.zeros((3, *SHAPE), np.float32)
    probabilities[0, 2:8, 2:8, 2:8] = 0.9
    probabilities[1, 2:5, 2:8, 2:8] = 0.8
    probabilities[2, 4:10, 2:8, 2:8] = 0.7
    mask = REGIONS.decode(probabilities)
    assert (mask[8:10, 2:8, 2:8] == 3).all()
    after = _apply(mask, "nesting", REGIONS, given={"probabilities": probabilities})
    assert (after[8:10] == 0).all()
    assert (after[5:8, 2:8, 2:8] == 1).all()
    assert (after[4, 2:8, 2:8] == 3).all()


def test_nesting_leaves_alone_what_does_not_contradict_itself() -> None:
    """Also where the rules before have painted otherwise than at one half."""
    probabilities = np.zeros((3, *SHAPE), np.float32)
    probabilities[0, 2:8], probabilities[1, 2:8], probabilities[2, 4:8] = 0.9, 0.8, 0.7
    probabilities[0, 8:10] = 0.4
    mask = REGIONS.decode(probabilities)
    mask[8:10] = 1
    mask[4:8] = 2
    np.testing.assert_array_equal(_apply(mask, "nesting", REGIONS, given={"probabilities": probabilities}), mask)


def test_outside_the_brain_nothing_stays() -> None:
    brain = np.zeros(SHAPE, bool)
    brain[:6] = True
    after = _apply(_tumour(), "outside_brain", given={"brain": brain})
    np.testing.assert_array_equal(after, np.where(brain, _tumour(), 0))
    with pytest.raises(PlanError, match="brain mask"):
        _apply(_tumour(), "outside_brain")


def test_smoothing_removes_single_voxels_and_keeps_flat_borders() -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[:, :, :10] = EDEMA
    clean = mask.copy()
    mask[8, 8, 4] = ENHANCING
    mask[8, 8, 14] = ENHANCING
    after = _apply(mask, "smoothing")
    inner = (slice(1, -1),) * 3
    np.testing.assert_array_equal(after[inner], clean[inner])


def test_smoothing_equals_counting_by_hand() -> None:
    mask = np.random.default_rng(0).integers(0, 4, (6, 7, 8)).astype(np.uint8)
    padded = np.pad(mask, 1)
    expected = np.empty_like(mask)
    for at in np.ndindex(mask.shape):
        votes = np.bincount(padded[tuple(slice(i, i + 3) for i in at)].ravel(), minlength=4)
        expected[at] = mask[at] if votes[mask[at]] == votes.max() else votes.argmax()
    np.testing.assert_array_equal(_apply(mask, "smoothing"), expected)


def test_thresholds_of_regions() -> None:
    probabilities = np.full((3, 1, 2, 3), 0.6, np.float32)
    mask = REGIONS.decode(probabilities)
    given = {"probabilities": probabilities}
    after = _apply(mask, "thresholds", REGIONS, given=given, values={"enhancing": 0.7, "core": 0.55})
    assert (mask == 3).all()
    assert (after == 2).all()


def test_thresholds_of_labels_at_a_half_change_nothing() -> None:
    scores = np.random.default_rng(0).random((4, 3, 4, 5)).astype(np.float32)
    mask = PLAIN.decode(scores)
    np.testing.assert_array_equal(
        _apply(mask, "thresholds", given={"probabilities": scores}, values={"edema": 0.5}), mask
    )


@pytest.mark.parametrize("values", [{"ET": 0.4}, {"enhancing": 1.0}])
def test_a_threshold_that_does_not_fit_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(PlanError, match="no threshold"):
        _apply(_tumour(), "thresholds", given={"probabilities": np.zeros((4, *SHAPE))}, values=values)


@pytest.mark.parametrize(("at_most", "above", "goes"), [(1.0, 0.001, True), (0.1, 0.001, False), (1.0, 0.008, False)])
def test_the_volume_gate_needs_both_bounds(at_most: float, above: float, goes: bool) -> None:
    mask = _tumour()  # 208 mm3 enhancing, 8 mm3 necrosis
    after = _apply(mask, "volume_gate", at_most_ml=at_most, above_ml=above, becomes="edema")
    np.testing.assert_array_equal(after, np.where(mask == ENHANCING, EDEMA, mask) if goes else mask)


def test_the_output_gate_obeys_the_classifier() -> None:
    mask = _tumour()
    rule = {"output": "tumour", "below": 0.3}
    assert not _apply(mask, "output_gate", given={"outputs": {"tumour": 0.2}}, **rule).any()
    np.testing.assert_array_equal(_apply(mask, "output_gate", given={"outputs": {"tumour": 0.3}}, **rule), mask)
    with pytest.raises(PlanError, match="'tumour'"):
        _apply(mask, "output_gate", **rule)

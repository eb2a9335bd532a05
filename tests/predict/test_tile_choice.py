"""Which tile is used, from what was measured."""

import pytest

from bts_auto.plan.schema import MeasuredTile
from bts_auto.predict.predictor import CasePredictor
from bts_auto.predict.tile_choice import Tiling, candidates, choose_tiling, fast_tiling, fits
from tests.predict.models import MemoryFold, make_configuration, make_plan

GIB = 1 << 30


def anywhere(_tile) -> bool:
    return True


def best(found, possible=anywhere):
    """The tile that is chosen."""
    return choose_tiling(found, possible).tile


def measured(tile, dice, seconds=1.0, *, mirrored=False, region="WT"):
    """What one tile reached: `dice` by case, equal time for all cases."""
    scores = {case: {region: value} for case, value in dice.items()}
    return MeasuredTile(tile=tile, mirrored=mirrored, dice=scores, seconds=dict.fromkeys(dice, seconds))


def test_nothing_measured_decides_nothing():
    assert choose_tiling([], anywhere) is None
    assert fast_tiling([], anywhere) is None


def test_the_best_tile_is_taken_where_it_is_clearly_better():
    found = [measured("patch", {"a": 0.8, "b": 0.7}, 1.0), measured("whole", {"a": 0.85, "b": 0.76}, 5.0)]
    assert best(found) == "whole"


def test_the_faster_of_two_tiles_within_noise_is_taken():
    found = [measured("patch", {"a": 0.81, "b": 0.700}, 5.0), measured("whole", {"a": 0.80, "b": 0.702}, 1.0)]
    assert best(found) == "whole"


def test_a_difference_that_varies_as_much_as_its_mean_is_noise():
    found = [
        measured("patch", {"a": 0.90, "b": 0.70, "c": 0.80}, 5.0),
        measured("whole", {"a": 0.70, "b": 0.80, "c": 0.80}, 1.0),
    ]
    assert best(found) == "whole"


def test_a_tile_that_does_not_fit_here_is_not_chosen():
    found = [measured("patch", {"a": 0.8}), measured("whole", {"a": 0.9})]
    assert best(found, lambda tile: tile != "whole") == "patch"


def test_folds_are_taken_together_and_a_tile_that_one_has_not_tried_is_left_out():
    first = [measured("patch", {"a": 0.7}), measured("whole", {"a": 0.85}), measured((96, 96, 96), {"a": 0.95})]
    second = [measured("patch", {"b": 0.5}), measured("whole", {"b": 0.9})]
    assert best([*first, *second]) == "whole"


def test_fast_may_lose_two_hundredths_in_no_region_of_the_mirrored_validation():
    found = [
        MeasuredTile(tile="patch", dice={"a": {"WT": 0.80, "ET": 0.800}}, seconds={"a": 9.0}),
        MeasuredTile(tile=(96, 96, 96), dice={"a": {"WT": 0.81, "ET": 0.795}}, seconds={"a": 4.0}),
        MeasuredTile(tile="whole", dice={"a": {"WT": 0.83, "ET": 0.770}}, seconds={"a": 2.0}),
        MeasuredTile(tile="patch", mirrored=True, dice={"a": {"WT": 0.82, "ET": 0.81}}),
    ]
    assert fast_tiling(found, anywhere).tile == (96, 96, 96)
    assert fast_tiling([one for one in found if one.tile != (96, 96, 96)], anywhere).tile == "patch"


def test_fast_has_no_tile_when_mirroring_is_worth_more():
    found = [measured("patch", {"a": 0.7}), measured("patch", {"a": 0.9}, mirrored=True)]
    assert fast_tiling(found, anywhere) is None


def test_fast_judges_by_the_same_cases_where_not_all_folds_were_mirrored():
    found = [
        measured("patch", {"a": 0.70, "b": 0.70}, 9.0),
        measured("whole", {"a": 0.60, "b": 0.62}, 1.0),
        measured("patch", {"b": 0.60}, mirrored=True),
    ]
    assert fast_tiling(found, anywhere).tile == "patch"


def test_eight_bit_integers_are_for_fast_only_and_where_the_machine_has_them():
    exact = measured("patch", {"a": 0.80}, 9.0)
    brief = measured("patch", {"a": 0.81}, 5.0).model_copy(update={"int8": True})
    assert choose_tiling([exact, brief], anywhere) == Tiling("patch", 0.5)
    assert fast_tiling([exact, brief], anywhere) == Tiling("patch", 0.5)
    assert fast_tiling([exact, brief], anywhere, int8=True) == Tiling("patch", 0.5, int8=True)


def test_eight_bit_integers_that_lose_too_much_are_not_used():
    found = [measured("patch", {"a": 0.80}, 9.0)]
    found.append(measured("patch", {"a": 0.77}, 5.0).model_copy(update={"int8": True}))
    assert not fast_tiling(found, anywhere, int8=True).int8


def test_only_tiles_that_fit_the_memory_are_tried():
    configuration = make_configuration(patch_size=(64, 64, 64), median_image_size_in_voxels=(155, 240, 240))
    assert candidates(configuration, 1000 * GIB)[-1] == Tiling("whole", 0.5)
    assert candidates(configuration, 0) == [Tiling("patch", 0.5), Tiling("patch", 0.75)]
    assert fits("patch", configuration, GIB)
    assert not fits("whole", configuration, GIB // 4)


def test_an_image_no_larger_than_the_patch_has_nothing_to_choose_but_the_whole():
    configuration = make_configuration(patch_size=(64, 64, 64), median_image_size_in_voxels=(60, 64, 50))
    assert [one.tile for one in candidates(configuration, 1000 * GIB)] == ["patch", "whole"]


def test_the_distance_of_tiles_is_chosen_with_them():
    close = measured((80, 80, 80), {"a": 0.8}, 9.0)
    wide = close.model_copy(update={"step_size": 0.75, "seconds": {"a": 5.0}})
    assert choose_tiling([close, wide], anywhere) == Tiling((80, 80, 80), 0.75)


@pytest.mark.parametrize(("fast", "tile", "axes"), [(False, "patch", (0, 1, 2)), (True, "whole", ())])
def test_a_predictor_uses_what_was_measured(fast, tile, axes):
    plan = make_plan(make_configuration()).replaced(
        "3d_fullres",
        "inference",
        {
            "tile": "auto",
            "mirror_axes": [0, 1, 2],
            "measured": [
                measured("patch", {"a": 0.90}, 2.0).model_dump(mode="json"),
                measured("whole", {"a": 0.885}, 1.0).model_dump(mode="json"),
            ],
        },
    )
    predictor = CasePredictor([MemoryFold(plan)], device="cpu", engine="torch", precision="fp32", fast=fast)
    assert (predictor.tile, predictor.mirror_axes) == (tile, axes)

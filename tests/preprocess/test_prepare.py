"""From a scan to the network's grid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bts_auto.data.orientation import Reorientation
from bts_auto.data.volume import Volume
from bts_auto.errors import DataError
from bts_auto.preprocess.prepare import OUTSIDE, prepare, prepare_all
from tests.preprocess.helpers import make_configuration, make_plan, make_volume

PLAN = make_plan()
FULL = PLAN.configuration("3d_fullres")
LEFT_HANDED = (0.0, -1.0, 0.0, 0.0, 0.0, 1.0, -1.0, 0.0, 0.0)


def labels_in(volume: Volume) -> np.ndarray:
    mask = np.zeros(volume.geometry.size, np.uint8)
    mask[4:8, 5:9, 6:10] = 2
    mask[5:7, 6:8, 7:9] = 1
    return mask


def test_the_crop_holds_what_is_not_zero() -> None:
    prepared = prepare(make_volume((12, 14, 16)), PLAN, FULL)
    assert prepared.image.shape == (2, 8, 10, 12)
    assert prepared.image.dtype == np.float32
    assert prepared.mask is None


def test_z_scores_are_those_of_the_crop() -> None:
    image = prepare(make_volume(), PLAN, FULL).image
    np.testing.assert_allclose([image.mean(axis=(1, 2, 3)), image.std(axis=(1, 2, 3))], [[0, 0], [1, 1]], atol=1e-5)


def test_background_outside_the_head_is_marked_and_labels_stay() -> None:
    volume = make_volume()
    volume.array[:, 2:4, 2:4, 2:4] = 0  # a corner of the box without signal, open to the outside
    mask = labels_in(volume)
    mask[2, 2, 2] = 3
    prepared = prepare(volume, PLAN, FULL, mask)
    assert prepared.mask is not None
    assert prepared.mask.dtype == np.int16
    corner = prepared.mask[:2, :2, :2]
    assert (corner[0, 0, 0], (corner == OUTSIDE).sum()) == (3, 7)
    assert (prepared.mask == OUTSIDE).sum() == 7
    assert np.array_equal(prepared.image[:, :2, :2, :2].reshape(2, -1)[:, 1:], np.zeros((2, 7)))


def test_inputs_are_not_changed() -> None:
    volume = make_volume()
    mask = labels_in(volume)
    before = volume.array.copy(), mask.copy()
    prepare(volume, PLAN, PLAN.configuration("3d_lowres"), mask)
    np.testing.assert_array_equal(volume.array, before[0])
    np.testing.assert_array_equal(mask, before[1])


@settings(max_examples=20, deadline=None)
@given(
    st.permutations([0, 1, 2]),
    st.lists(st.sampled_from([-1.0, 1.0]), min_size=3, max_size=3),
    st.permutations([0, 1, 2]),
)
def test_masks_come_back_to_the_scan_exactly(order: list[int], signs: list[float], transpose: list[int]) -> None:
    direction = np.zeros((3, 3))
    direction[order, range(3)] = signs
    volume = make_volume(direction=direction.ravel())
    mask = labels_in(volume)
    plan = make_plan(transpose_forward=transpose, transpose_backward=np.argsort(transpose).tolist())
    prepared = prepare(volume, plan, FULL, mask)
    assert prepared.mask is not None
    np.testing.assert_array_equal(prepared.steps.undo(prepared.mask.clip(0)), mask)


def test_canonical_plans_turn_the_scan_and_others_do_not() -> None:
    volume = make_volume((12, 14, 16), direction=LEFT_HANDED)
    turned = Reorientation.between(LEFT_HANDED).apply(volume.array)[:, 2:-2, 2:-2, 2:-2]
    stored = volume.array[:, 2:-2, 2:-2, 2:-2]
    plain = {"3d_fullres": make_configuration(normalization_schemes=["NoNormalization"] * 2)}
    for orientation, expected in (("canonical", turned), ("as_stored", stored)):
        plan = make_plan(plain, orientation=orientation)
        np.testing.assert_array_equal(prepare(volume, plan, plan.configuration("3d_fullres")).image, expected)


def test_two_dimensions_keep_the_first_axis() -> None:
    plan = make_plan({"2d": make_configuration((0.5, 0.5), (8, 8))}, transpose_forward=(2, 0, 1))
    prepared = prepare(make_volume((12, 14, 16), spacing=(1.0, 1.0, 4.0)), plan, plan.configuration("2d"))
    assert prepared.image.shape == (2, 12, 16, 20)
    assert prepared.steps.spacing == (4.0, 0.5, 0.5)


def test_resampling_reaches_the_planned_grid() -> None:
    volume = make_volume((12, 14, 16), spacing=(2.0, 1.0, 1.0))
    prepared = prepare(volume, PLAN, FULL, labels_in(volume))
    assert prepared.mask is not None
    assert prepared.image.shape[1:] == prepared.mask.shape == prepared.steps.shape == (16, 10, 12)
    assert set(np.unique(prepared.mask)) == {0, 1, 2}


def test_configurations_share_what_is_equal() -> None:
    volume = make_volume()
    names = ["3d_fullres", "3d_lowres", "2d"]
    every = list(prepare_all(volume, PLAN, [PLAN.configuration(name) for name in names], labels_in(volume)))
    assert every[0].image is every[2].image
    assert every[1].image.shape != every[0].image.shape
    for name, prepared in zip(names, every, strict=True):
        alone = prepare(volume, PLAN, PLAN.configuration(name), labels_in(volume))
        np.testing.assert_array_equal(prepared.image, alone.image)
        np.testing.assert_array_equal(prepared.mask, alone.mask)


def test_schemes_are_kept_apart() -> None:
    plan = make_plan({"a": make_configuration(), "b": make_configuration(use_mask_for_norm=[False, False])})
    volume = make_volume()
    volume.array[:, 2:4, 2:4, 2:4] = 0
    first, second = prepare_all(volume, plan, [plan.configuration("a"), plan.configuration("b")])
    assert not np.allclose(first.image, second.image)


def test_a_scan_without_annotation_can_be_marked() -> None:
    (prepared,) = prepare_all(make_volume(), PLAN, [FULL], mark_outside=True)
    assert prepared.mask is not None
    assert not prepared.annotated
    assert set(np.unique(prepared.mask)) <= {0, OUTSIDE}


def test_other_channels_or_shapes_are_refused() -> None:
    with pytest.raises(DataError, match="give channel 0, channel 1"):
        prepare(make_volume(n_channels=3), PLAN, FULL)
    with pytest.raises(DataError, match="shape"):
        prepare(make_volume(), PLAN, FULL, np.zeros((3, 3, 3), np.uint8))


def test_a_scan_that_would_not_fit_the_memory_is_refused_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = make_volume((12, 14, 16), spacing=(20.0, 20.0, 20.0))
    monkeypatch.setattr("bts_auto.machine.free_memory", lambda: 50 << 20)
    prepare(make_volume((12, 14, 16)), PLAN, FULL)
    with pytest.raises(DataError, match=r"8x10x12 voxels of 20 x 20 x 20 mm become 160x200x240.*the spacing in the"):
        prepare(volume, PLAN, FULL)

"""Resampling of images and masks, against scikit-image, SciPy and batchgenerators as nnU-Net calls them."""

from __future__ import annotations

import numpy as np
import pytest
from batchgenerators.augmentations.utils import resize_segmentation
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, map_coordinates
from skimage.transform import resize

from bts_auto.preprocess.resample import resample_image, resample_mask, separate_axis

ISO = (1.0, 1.0, 1.0)


def smooth(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1).astype(np.float32)


def blobs(shape: tuple[int, ...], n_labels: int = 4, seed: int = 0) -> np.ndarray:
    """A label map with -1 outside, as prepared cases have."""
    field = smooth(shape, seed)
    return (np.digitize(field, np.quantile(field, np.linspace(0, 1, n_labels + 1)[1:-1])) - 1).astype(np.int16)


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.integers(1, 20)] * 3), st.tuples(*[st.integers(1, 30)] * 3), st.sampled_from([1, 3]))
def test_image_equals_scikit_image(shape: tuple, new_shape: tuple, order: int) -> None:
    image = smooth((1, *shape))
    expected = resize(image[0], new_shape, order=order, mode="edge", anti_aliasing=False, clip=True)
    found = resample_image(image, new_shape, order=order, spacing=ISO, new_spacing=ISO)
    np.testing.assert_allclose(found[0], expected, atol=1e-4 * max(float(np.ptp(image)), 1e-6))


def test_image_is_clipped_to_each_channel() -> None:
    image = np.zeros((2, 8, 8, 8), np.float32)
    image[0, 4:], image[1, 4:] = 1, 100
    found = resample_image(image, (13, 13, 13), spacing=ISO, new_spacing=ISO)
    assert [float(channel.min()) for channel in found] == [0, 0]
    assert [float(channel.max()) for channel in found] == [1, 100]


@pytest.mark.parametrize(
    ("spacing", "new_spacing", "apart"),
    [
        ((1, 1, 1), (2, 1, 1), None),
        ((5, 1, 1), (1, 1, 1), 0),
        ((1, 1, 1), (1, 1, 4), 2),
        ((1, 4, 1), (5, 1, 1), 1),
        ((3, 1, 1), (3, 1, 1), None),
        ((0.24, 1.25, 1.25), (1, 1, 1), None),
    ],
)
def test_the_axis_treated_apart(spacing: tuple, new_spacing: tuple, apart: int | None) -> None:
    assert separate_axis(spacing, new_spacing) == apart
    assert separate_axis(spacing, new_spacing, False) is None


def test_separate_z_can_be_forced() -> None:
    assert separate_axis((2, 1, 1), (1, 1, 1), True) == 0


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("n_along", [5, 17])
@pytest.mark.parametrize("order_z", [0, 1, 3])
def test_separate_z_equals_slices_then_coordinates(axis: int, n_along: int, order_z: int) -> None:
    shape, new_shape = [9, 9, 9], [15, 13, 14]
    new_shape[axis] = n_along
    spacing = [1.0, 1.0, 1.0]
    spacing[axis] = 5.0
    image = smooth((1, *shape))
    plane = tuple(n for a, n in enumerate(new_shape) if a != axis)
    rule = {"order": 3, "mode": "edge", "anti_aliasing": False}
    slices = np.stack([resize(one, plane, **rule) for one in np.moveaxis(image[0], axis, 0)])
    at = np.mgrid[:n_along, : plane[0], : plane[1]].astype(float)
    at[0] = (at[0] + 0.5) * 9 / n_along - 0.5
    expected = map_coordinates(slices, at, order=order_z, mode="nearest")
    found = resample_image(image, new_shape, spacing=spacing, new_spacing=ISO, order_z=order_z)
    np.testing.assert_allclose(np.moveaxis(found[0], axis, 0), expected, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.integers(1, 16)] * 3), st.tuples(*[st.integers(1, 24)] * 3), st.integers(0, 50))
def test_mask_equals_batchgenerators(shape: tuple, new_shape: tuple, seed: int) -> None:
    mask = blobs(shape, seed=seed)
    expected = resize_segmentation(mask, new_shape, order=1)
    found = resample_mask(mask, new_shape, spacing=ISO, new_spacing=ISO)
    # Where labels tie, rounding in float64 decides there; nothing else may differ.
    different = found != expected
    np.testing.assert_allclose(score_of(mask, found)[different], score_of(mask, expected)[different], atol=1e-12)
    assert found.dtype == mask.dtype


def score_of(mask: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The interpolated indicator of the chosen label in each voxel."""
    score = np.zeros(chosen.shape)
    for label in np.unique(chosen):
        indicator = (mask == label).astype(float)
        resized = resize(indicator, chosen.shape, order=1, mode="edge", anti_aliasing=False)
        score[chosen == label] = resized[chosen == label]
    return score


@pytest.mark.parametrize("new_shape", [(32, 36, 40), (8, 9, 10), (23, 11, 29)])
@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_mask_of_every_order_equals_batchgenerators(new_shape: tuple, order: int) -> None:
    mask = blobs((16, 18, 20), n_labels=6)
    expected = resize_segmentation(mask, new_shape, order=order)
    np.testing.assert_array_equal(resample_mask(mask, new_shape, order=order, spacing=ISO, new_spacing=ISO), expected)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("n_along", [4, 19])
def test_mask_with_separate_z(axis: int, n_along: int) -> None:
    shape, new_shape, spacing = [9, 9, 9], [16, 13, 11], [1.0, 1.0, 1.0]
    new_shape[axis], spacing[axis] = n_along, 5.0
    mask = blobs(tuple(shape))
    plane = tuple(n for a, n in enumerate(new_shape) if a != axis)
    slices = np.stack([resize_segmentation(one, plane, order=1) for one in np.moveaxis(mask, axis, 0)])
    along = np.floor((np.arange(n_along) + 0.5) * 9 / n_along).astype(int)
    found = resample_mask(mask, new_shape, spacing=spacing, new_spacing=ISO)
    np.testing.assert_array_equal(np.moveaxis(found, axis, 0), slices[along])


def test_many_slabs_give_the_same_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = blobs((16, 18, 20), n_labels=6)
    whole = {order: resample_mask(mask, (25, 24, 23), order=order, spacing=ISO, new_spacing=ISO) for order in (1, 3)}
    for name in ("_SLAB_VOXELS", "_SPLINE_SLAB_VOXELS", "_PIECE"):
        monkeypatch.setattr(f"bts_auto.preprocess.label_maps.{name}", 100)
    for order, expected in whole.items():
        found = resample_mask(mask, (25, 24, 23), order=order, spacing=ISO, new_spacing=ISO)
        np.testing.assert_array_equal(found, expected)


def test_an_unchanged_shape_is_no_work() -> None:
    image, mask = smooth((1, 4, 5, 6)), blobs((4, 5, 6))
    assert resample_image(image, (4, 5, 6), spacing=ISO, new_spacing=ISO) is image
    assert resample_mask(mask, (4, 5, 6), spacing=ISO, new_spacing=ISO) is mask


def test_the_input_is_not_changed() -> None:
    image, mask = smooth((1, 4, 5, 6)), blobs((4, 5, 6))
    before = image.copy(), mask.copy()
    resample_image(image, (8, 5, 3), spacing=ISO, new_spacing=ISO)
    resample_mask(mask, (8, 5, 3), spacing=ISO, new_spacing=ISO)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(mask, before[1])

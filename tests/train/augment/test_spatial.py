"""Rotation, scaling and elastic deformation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform, create_affine_matrix_3d
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from bts_auto.plan.schema import Component
from bts_auto.train.augment.options import SpatialOptions
from bts_auto.train.augment.pipeline import Augmentation
from bts_auto.train.augment.spatial import Elastic, Spatial, SpatialParameters, rotation_matrix

ALWAYS = {"probability_rotation": 1.0, "probability_scaling": 1.0}


def read(volume: np.ndarray, box: list[tuple[int, int]], fill: float) -> np.ndarray:
    """A box of a volume (k, *s), padded."""
    shape = volume.shape[1:]
    widths = [(max(0, -a), max(0, b - n)) for (a, b), n in zip(box, shape, strict=True)]
    padded = np.pad(volume, [(0, 0), *widths], constant_values=fill)
    inner = tuple(slice(a + w, b + w) for (a, b), (w, _) in zip(box, widths, strict=True))
    return padded[(slice(None), *inner)]


def transform(augmentation: Augmentation, step: int, image: np.ndarray, mask: np.ndarray, lower: tuple[int, ...]):
    draw = augmentation.draw(0, step, 0)
    box = draw.read_box(lower, image.shape[1:])
    offset = [first - at for (first, _), at in zip(box, lower, strict=True)]
    parts = torch.from_numpy(read(image, box, 0)), torch.from_numpy(read(mask, box, -1))
    return draw, augmentation.apply(draw, *parts, offset)


@given(st.tuples(*[st.floats(-math.pi, math.pi)] * 3))
def test_rotation_is_the_reference_one(angles: tuple[float, float, float]) -> None:
    np.testing.assert_allclose(rotation_matrix(angles), create_affine_matrix_3d(angles, (1, 1, 1)), atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(step=st.integers(0, 10**6), lower=st.tuples(*[st.integers(-6, 20)] * 3))
def test_image_equals_affine_transform_of_the_padded_volume(step: int, lower: tuple[int, int, int]) -> None:
    size, patch = (24, 26, 22), (10, 12, 8)
    image = np.random.default_rng(0).standard_normal((1, *size)).astype(np.float32)
    augmentation = Augmentation([Component(name="spatial", options=ALWAYS)], patch, channels=1)
    draw, (out, _) = transform(augmentation, step, image, np.zeros((1, *size), np.int16), lower)
    spatial, parameters = draw.steps[0]
    matrix, centre = spatial.matrix(parameters), (np.array(patch) - 1) / 2
    margin = 30
    padded = np.pad(image[0], margin)
    start = np.array(lower) + centre - matrix @ centre + margin
    expected = ndimage.affine_transform(padded, matrix, start, patch, order=1)
    np.testing.assert_allclose(out[0], expected, atol=1e-4)


@pytest.mark.parametrize("patch", [(16, 16, 16), (14, 18)])
def test_equals_batchgeneratorsv2_for_the_same_angles_and_scales(patch: tuple[int, ...]) -> None:
    dims, size = len(patch), tuple(n + 16 for n in patch)
    rng = np.random.default_rng(4)
    image = rng.standard_normal((2, *size)).astype(np.float32)
    fields = [ndimage.gaussian_filter(rng.standard_normal(size), 2) for _ in range(4)]
    mask = np.argmax(fields, 0).astype(np.int16)[None]
    angles, scale = (0.3, -0.2, 0.4), 1.1
    theirs = SpatialTransform(
        patch, 0, False, p_rotation=1, rotation=lambda image, dim: angles[dim] if dims == 3 else angles[-1],
        p_scaling=1, scaling=(scale, scale), p_synchronize_scaling_across_axes=1, border_mode_seg="constant",
        padding_value_seg=-1,
    )  # fmt: skip
    grid = theirs.get_parameters(image=torch.from_numpy(image))
    spatial = Spatial(SpatialOptions(), patch)
    offset = tuple(-8 for _ in patch)
    out, out_mask = spatial.apply(
        torch.from_numpy(image), torch.from_numpy(mask), SpatialParameters(angles, (scale,) * 3), offset
    )
    torch.testing.assert_close(out, theirs._apply_to_image(torch.from_numpy(image), **grid), rtol=0, atol=1e-4)
    expected = theirs._apply_to_segmentation(torch.from_numpy(mask), **grid)
    # Their scores are rounded to half precision, which turns near ties into ties.
    assert (out_mask == expected).float().mean() > 0.999


def test_in_plane_leaves_the_first_axis_alone() -> None:
    image = np.repeat(np.arange(6, dtype=np.float32)[None, :, None, None], 40, 2).repeat(40, 3)
    options = {**ALWAYS, "in_plane": True, "rotation": (-math.pi, math.pi)}
    augmentation = Augmentation([Component(name="spatial", options=options)], (6, 16, 16), channels=1)
    for step in range(5):
        draw, (out, _) = transform(augmentation, step, image, np.zeros((1, 6, 40, 40), np.int16), (0, 12, 12))
        assert draw.reach[0] == (0, 6)
        np.testing.assert_allclose(out[0], image[0, :, :16, :16], atol=1e-5)


def test_in_plane_slices_are_two_dimensional_transforms() -> None:
    rng = np.random.default_rng(1)
    image = rng.standard_normal((2, 3, 30, 30)).astype(np.float32)
    mask = rng.integers(0, 3, (1, 3, 30, 30)).astype(np.int16)
    parameters = SpatialParameters((0.5, 0.1, -0.4), (0.9,) * 3)
    volume = Spatial(SpatialOptions(in_plane=True), (3, 14, 12))
    slices = Spatial(SpatialOptions(), (14, 12))
    out, out_mask = volume.apply(torch.from_numpy(image), torch.from_numpy(mask), parameters, (0, -8, -8))
    for z in range(3):
        one, one_mask = slices.apply(torch.from_numpy(image[:, z]), torch.from_numpy(mask[:, z]), parameters, (-8, -8))
        assert torch.equal(out[:, z], one)
        assert torch.equal(out_mask[:, z], one_mask)


def test_probabilities_and_ranges_are_nnunets() -> None:
    spatial = Spatial(SpatialOptions(), (8, 8, 8))
    draws = [spatial.draw(np.random.default_rng([3, n]), 1) for n in range(4000)]
    applied = [one for one in draws if one is not None]
    rotated = np.array([one.angles for one in applied if one.angles != (0.0, 0.0, 0.0)])
    scaled = np.array([one.scales for one in applied if one.scales != (1.0, 1.0, 1.0)])
    for count, share in ((len(applied), 0.36), (len(rotated), 0.2), (len(scaled), 0.2)):
        assert abs(count / 4000 - share) < 4 * math.sqrt(share * (1 - share) / 4000)
    assert np.abs(rotated).max() <= math.pi / 6
    assert np.abs(rotated).max(0) == pytest.approx(math.pi / 6, rel=0.05)
    assert (scaled == scaled[:, :1]).all()
    assert (scaled.min(), scaled.max()) == pytest.approx((0.7, 1.4), rel=0.02)
    assert scaled.mean() == pytest.approx(1.05, abs=0.03)


def test_anisotropic_scales_differ_between_axes() -> None:
    spatial = Spatial(SpatialOptions(probability_scaling=1, isotropic=False), (8, 8, 8))
    drawn = spatial.draw(np.random.default_rng(0), 1)
    assert drawn is not None
    assert len(set(drawn.scales)) == 3


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), magnitude=st.floats(0, 0.5), spacing=st.floats(0.1, 0.8))
def test_elastic_positions_stay_in_the_box(seed: int, magnitude: float, spacing: float) -> None:
    spatial = Spatial(SpatialOptions(), (12, 10, 14))
    parameters = SpatialParameters((0.2, 0.1, -0.3), (1.2,) * 3, Elastic(spacing, magnitude, seed))
    box = spatial.box(parameters)
    positions = spatial._positions(parameters, tuple(first for first, _ in box), torch.device("cpu"))(0, 12)
    for position, (first, last) in zip(positions, box, strict=True):
        assert position.min() >= -1e-3
        assert position.max() <= last - first - 1 + 1e-3


def test_elastic_deformation_is_smooth_and_as_large_as_said() -> None:
    spatial = Spatial(SpatialOptions(), (32, 32, 32))
    field = spatial._displacement(Elastic(0.25, 0.3, 1)).numpy()
    largest = 0.3 * 8
    assert np.abs(field).max(axis=(1, 2, 3)) == pytest.approx([largest] * 3, rel=1e-4)
    assert max(np.abs(np.diff(field, axis=axis)).max() for axis in (1, 2, 3)) < 0.9  # no folding


def test_without_elastic_magnitude_nothing_moves() -> None:
    image = np.random.default_rng(0).standard_normal((1, 20, 20)).astype(np.float32)
    spatial = Spatial(SpatialOptions(), (12, 12))
    parameters = SpatialParameters((0.0,) * 3, (1.0,) * 3, Elastic(0.3, 0.0, 5))
    out, _ = spatial.apply(torch.from_numpy(image), torch.zeros((1, 20, 20), dtype=torch.int16), parameters, (-4, -4))
    torch.testing.assert_close(out, torch.from_numpy(image[:, 4:16, 4:16]))

"""Gaussian blur, against batchgeneratorsv2 and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.noise.gaussian_blur import _compute_kernel_size, blur_dimension
from scipy import ndimage

from bts_auto.train.augment.blur import GaussianBlur, blur_axis, kernel_radius
from bts_auto.train.augment.options import GaussianBlurOptions


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sigma", [0.5, 0.77, 1.0])
def test_equals_batchgeneratorsv2(sigma: float, axis: int) -> None:
    values = noise(10, 12, 14)
    torch.testing.assert_close(blur_axis(values, sigma, axis), blur_dimension(values[None], sigma, axis)[0])


def test_kernels_are_as_wide_as_in_batchgeneratorsv2() -> None:
    for sigma in np.linspace(0.501, 3, 200):
        assert 2 * kernel_radius(sigma) + 1 == _compute_kernel_size(sigma, truncate=6)


def test_equals_scipy_for_each_axis_its_own_width() -> None:
    image = noise(2, 14, 15, 16)
    sigmas = (0.6, 0.8, 0.95)
    out, _ = GaussianBlur(GaussianBlurOptions()).apply(image.clone(), torch.zeros((1, 14, 15, 16)), ((1, sigmas),))
    expected = image[1].numpy()
    for axis, sigma in enumerate(sigmas):
        expected = ndimage.gaussian_filter1d(expected, sigma, axis, mode="mirror", radius=kernel_radius(sigma))
    np.testing.assert_allclose(out[1], expected, atol=1e-5)
    assert torch.equal(out[0], image[0])


@pytest.mark.parametrize("size", [1, 2, 3])
def test_short_axes_are_blurred_as_far_as_they_go(size: int) -> None:
    values = noise(size, 8, 8)
    out = blur_axis(values, 1.0, 0)
    assert out.shape == values.shape
    torch.testing.assert_close(blur_axis(torch.ones_like(values), 1.0, 0), torch.ones_like(values))


def test_widths_are_drawn_per_channel_and_axis() -> None:
    blur = GaussianBlur(GaussianBlurOptions(probability=1, probability_per_channel=1))
    drawn = blur.draw(np.random.default_rng(0), 3)
    assert drawn is not None
    widths = [sigma for _, sigmas in drawn for sigma in sigmas]
    assert len(set(widths)) == 9
    assert 0.5 <= min(widths) <= max(widths) <= 1


def test_half_of_the_channels_are_blurred() -> None:
    blur = GaussianBlur(GaussianBlurOptions(probability=1))
    counts = [len(blur.draw(np.random.default_rng(n), 4) or ()) for n in range(500)]
    assert np.mean(counts) == pytest.approx(2, abs=0.2)

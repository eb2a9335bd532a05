"""Transforms that act in one place more than in another."""

from __future__ import annotations

import math

import torch

from bts_auto.train.augment.bias_field import BiasField, Field
from bts_auto.train.augment.brightness_gradient import BrightnessGradient, Slope
from bts_auto.train.augment.cut_out import CutOut, Hole
from bts_auto.train.augment.fields import hill, smooth_noise
from bts_auto.train.augment.local_gamma import LocalGamma, Spot
from bts_auto.train.augment.options import (
    BiasFieldOptions,
    BrightnessGradientOptions,
    CutOutOptions,
    LocalGammaOptions,
)

NO_MASK = torch.zeros((1, 16, 16, 16), dtype=torch.int16)
CENTRE = (0.5, 0.5, 0.5)


def noise() -> torch.Tensor:
    return torch.randn((2, 16, 16, 16), generator=torch.Generator().manual_seed(0))


def test_smooth_noise_is_smooth_and_reaches_one() -> None:
    field = smooth_noise((30, 31, 32), (10.0, 10.0, 10.0), 2, 0)
    assert field.shape == (2, 30, 31, 32)
    torch.testing.assert_close(field.abs().amax((1, 2, 3)), torch.ones(2))
    second = field.diff(n=2, dim=1).abs().max()
    assert second < 0.1  # no kinks, as linear interpolation would have


def test_hill_peaks_at_its_centre() -> None:
    peak = hill((15, 15), (0.5, 0.5), 0.2, torch.device("cpu"))
    assert peak.argmax() == 7 * 15 + 7
    assert peak.max() == 1
    one_width = hill((10,), (0.05,), 0.2, torch.device("cpu"))[2]
    torch.testing.assert_close(one_width.item(), math.exp(-0.5))


def test_bias_field_multiplies_within_its_strength() -> None:
    image = noise()
    image[0, 0, 0, 0] = -9
    out, _ = BiasField(BiasFieldOptions()).apply(image.clone(), NO_MASK, ((0, Field(0.4, 0.5, 1)),))
    factor = (out[0] + 9)[1:] / (image[0] + 9)[1:]
    assert math.exp(-0.401) < factor.min() < 1 < factor.max() < math.exp(0.401)
    assert factor.diff(dim=0).abs().max() < 0.3
    assert torch.equal(out[1], image[1])


def test_brightness_rises_by_the_drawn_height_at_the_point() -> None:
    image = noise()
    out, _ = BrightnessGradient(BrightnessGradientOptions()).apply(
        image.clone(), NO_MASK, ((1, Slope(CENTRE, 0.3, 2.0)),)
    )
    added = out[1] - image[1]
    torch.testing.assert_close(added.max(), 2 * image[1].std(), rtol=0.03, atol=0)
    assert added[0, 0, 0] < added.max() / 4


def test_local_gamma_leaves_distant_voxels_and_the_range() -> None:
    image = noise()
    out, _ = LocalGamma(LocalGammaOptions()).apply(image.clone(), NO_MASK, ((0, Spot((0.0,) * 3, 0.1, 2.0)),))
    torch.testing.assert_close(out[0, 10:, 10:, 10:], image[0, 10:, 10:, 10:])
    assert not torch.allclose(out[0, :2, :2, :2], image[0, :2, :2, :2], atol=0.05)
    assert out[0].min() >= image[0].min() - 1e-5
    assert out[0].max() <= image[0].max() + 1e-5


def test_cut_out_hides_a_box_of_every_channel_and_keeps_the_mask() -> None:
    image = noise()
    mask = torch.ones_like(NO_MASK)
    means = image.mean((1, 2, 3))
    out, out_mask = CutOut(CutOutOptions()).apply(image.clone(), mask, (Hole(CENTRE, (0.25, 0.5, 0.25)),))
    changed = out != image
    assert (changed.sum((1, 2, 3)) == 4 * 8 * 4).all()
    torch.testing.assert_close(out[:, 8, 8, 8], means)
    assert torch.equal(out_mask, torch.ones_like(NO_MASK))

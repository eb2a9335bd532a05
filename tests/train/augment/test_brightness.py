"""Multiplication by a factor, addition of an offset, and how they are drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.intensity.contrast import BGContrast
from scipy import stats

from bts_auto.train.augment.base import draw_factor
from bts_auto.train.augment.brightness import Brightness
from bts_auto.train.augment.brightness_shift import BrightnessShift
from bts_auto.train.augment.options import BrightnessOptions, BrightnessShiftOptions


def test_channels_are_multiplied() -> None:
    image = torch.full((3, 4, 4, 4), 2.0)
    out, _ = Brightness(BrightnessOptions()).apply(image, torch.zeros((1, 4, 4, 4)), ((0, 0.5), (2, 1.25)))
    assert out[:, 0, 0, 0].tolist() == [1.0, 2.0, 2.5]


def test_each_channel_has_its_own_factor() -> None:
    brightness = Brightness(BrightnessOptions(probability=1))
    drawn = brightness.draw(np.random.default_rng(0), 4)
    assert drawn is not None
    assert len({factor for _, factor in drawn}) == 4


def test_one_factor_for_all_channels_on_demand() -> None:
    drawn = Brightness(BrightnessOptions(probability=1, synchronize_channels=True)).draw(np.random.default_rng(0), 4)
    assert drawn is not None
    assert len({factor for _, factor in drawn}) == 1


@pytest.mark.parametrize("bounds", [(0.75, 1.25), (0.7, 1.5), (1.1, 1.5), (0.9, 3.0)])
def test_factors_are_distributed_as_in_batchgeneratorsv2(bounds: tuple[float, float]) -> None:
    rng = np.random.default_rng(0)
    np.random.seed(1)  # noqa: NPY002  theirs draws from the global generator
    ours = [draw_factor(rng, bounds) for _ in range(3000)]
    theirs = [BGContrast(bounds)() for _ in range(3000)]
    assert stats.ks_2samp(ours, theirs).pvalue > 0.001


def test_factors_below_one_stay_in_their_range() -> None:
    rng = np.random.default_rng(0)
    assert max(draw_factor(rng, (0.5, 0.8)) for _ in range(200)) <= 0.8


def test_offsets_are_added_and_normal() -> None:
    out, _ = BrightnessShift(BrightnessShiftOptions()).apply(torch.ones((2, 4, 4)), torch.zeros((1, 4, 4)), ((1, 0.5),))
    assert out[:, 0, 0].tolist() == [1.0, 1.5]
    shift = BrightnessShift(BrightnessShiftOptions(probability=1, probability_per_channel=1, sigma=0.1))
    offsets = [value for _, value in shift.draw(np.random.default_rng(0), 2000) or ()]
    assert stats.kstest(offsets, "norm", args=(0, 0.1)).pvalue > 0.001

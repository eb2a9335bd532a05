"""White noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bts_auto.train.augment.noise import GaussianNoise, NoiseParameters
from bts_auto.train.augment.options import GaussianNoiseOptions

NO_MASK = torch.zeros((1, 40, 40, 40), dtype=torch.int16)


def test_noise_is_normal_with_the_drawn_deviation_and_independent_between_channels() -> None:
    out, _ = GaussianNoise(GaussianNoiseOptions()).apply(
        torch.zeros((2, 40, 40, 40)), NO_MASK, NoiseParameters(((0, 0.1), (1, 0.05)), 3)
    )
    assert out[0].std().item() == pytest.approx(0.1, rel=0.02)
    assert out[1].std().item() == pytest.approx(0.05, rel=0.02)
    assert out.mean().item() == pytest.approx(0, abs=0.002)
    assert abs(np.corrcoef(out[0].ravel(), out[1].ravel())[0, 1]) < 0.02
    assert (out[0].abs() > 0.3).float().mean().item() == pytest.approx(0.0027, abs=0.001)


def test_channels_that_were_not_drawn_stay() -> None:
    out, _ = GaussianNoise(GaussianNoiseOptions()).apply(
        torch.ones((2, 40, 40, 40)), NO_MASK, NoiseParameters(((1, 0.1),), 3)
    )
    assert (out[0] == 1).all()


def test_one_deviation_for_all_channels_in_a_tenth_of_the_samples() -> None:
    noise = GaussianNoise(GaussianNoiseOptions())
    drawn = [noise.draw(np.random.default_rng([1, n]), 3) for n in range(3000)]
    applied = [one.sigmas for one in drawn if one is not None]
    assert abs(len(applied) / 3000 - 0.1) < 4 * math.sqrt(0.09 / 3000)
    assert all([channel for channel, _ in sigmas] == [0, 1, 2] for sigmas in applied)
    assert all(len({sigma for _, sigma in sigmas}) == 1 for sigmas in applied)
    values = [sigmas[0][1] for sigmas in applied]
    assert 0 <= min(values) < 0.005
    assert 0.095 < max(values) <= 0.1

"""Simulated low resolution, against batchgeneratorsv2."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform

from bts_auto.train.augment.low_resolution import LowResolution
from bts_auto.train.augment.options import LowResolutionOptions


@pytest.mark.parametrize("size", [(12, 13, 14), (20, 30)])
def test_equals_batchgeneratorsv2_for_the_same_scales(size: tuple[int, ...]) -> None:
    image = torch.randn((2, *size), generator=torch.Generator().manual_seed(0))
    theirs = SimulateLowResolutionTransform((1, 1), False, False, None)._apply_to_image(
        image.clone(), apply_to_channel=torch.tensor([1]), scales=torch.tensor([[0.5, 0.7, 0.9][: len(size)]])
    )
    out, _ = LowResolution(LowResolutionOptions()).apply(
        image.clone(), torch.zeros((1, *size)), ((1, (0.5, 0.7, 0.9)),)
    )
    torch.testing.assert_close(out, theirs)


def test_axes_share_a_scale_but_those_that_are_left_alone() -> None:
    drawn = LowResolution(LowResolutionOptions(probability=1, probability_per_channel=1, ignore_axes=(0,))).draw(
        np.random.default_rng(0), 2
    )
    assert drawn is not None
    for _, (first, second, third) in drawn:
        assert first == 1
        assert 0.5 <= second == third <= 1


def test_a_scale_of_one_changes_nothing() -> None:
    image = torch.randn((1, 8, 8, 8))
    out, _ = LowResolution(LowResolutionOptions()).apply(image.clone(), torch.zeros((1, 8, 8, 8)), ((0, (1.0,) * 3),))
    assert torch.equal(out, image)

"""Stretching about the mean, against batchgeneratorsv2."""

from __future__ import annotations

import pytest
import torch
from batchgeneratorsv2.transforms.intensity.contrast import ContrastTransform

from bts_auto.train.augment.contrast import Contrast
from bts_auto.train.augment.options import ContrastOptions

FACTORS = ((0, 0.8), (2, 1.25))


@pytest.mark.parametrize("preserve_range", [True, False])
def test_equals_batchgeneratorsv2_for_the_same_factors(preserve_range: bool) -> None:
    image = torch.randn((3, 12, 12, 12), generator=torch.Generator().manual_seed(0)) + 3
    theirs = ContrastTransform((1, 1), preserve_range, False)._apply_to_image(
        image.clone(), apply_to_channel=torch.tensor([0, 2]), multipliers=torch.tensor([0.8, 1.25])
    )
    ours = Contrast(ContrastOptions(preserve_range=preserve_range))
    out, _ = ours.apply(image.clone(), torch.zeros((1, 12, 12, 12)), FACTORS)
    torch.testing.assert_close(out, theirs, rtol=0, atol=1e-5)

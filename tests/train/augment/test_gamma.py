"""The power law, against batchgeneratorsv2."""

from __future__ import annotations

import pytest
import torch
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform

from bts_auto.train.augment.gamma import Gamma
from bts_auto.train.augment.options import GammaOptions


@pytest.mark.parametrize("level", [0.0, 1000.0])
@pytest.mark.parametrize("retain_stats", [True, False])
@pytest.mark.parametrize("invert", [True, False])
def test_equals_batchgeneratorsv2_for_the_same_exponents(invert: bool, retain_stats: bool, level: float) -> None:
    image = torch.randn((3, 12, 12, 12), generator=torch.Generator().manual_seed(0)) * 2 + level
    theirs = GammaTransform((1, 1), float(invert), False, 1, float(retain_stats))._apply_to_image(
        image.clone(),
        apply_to_channel=torch.tensor([0, 2]),
        retain_stats=torch.tensor([retain_stats] * 2),
        invert_image=torch.tensor([invert] * 2),
        gamma=torch.tensor([0.7, 1.5]),
    )
    ours = Gamma(GammaOptions(invert=invert, retain_stats=retain_stats))
    out, _ = ours.apply(image.clone(), torch.zeros((1, 12, 12, 12)), ((0, 0.7), (2, 1.5)))
    torch.testing.assert_close(out, theirs, rtol=1e-6, atol=5e-5)


def test_statistics_are_kept() -> None:
    image = torch.rand((1, 20, 20, 20), generator=torch.Generator().manual_seed(0)) * 50
    out, _ = Gamma(GammaOptions()).apply(image.clone(), torch.zeros((1, 20, 20, 20)), ((0, 1.5),))
    torch.testing.assert_close(torch.std_mean(out), torch.std_mean(image), rtol=1e-4, atol=1e-4)

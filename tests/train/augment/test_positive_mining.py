"""Samples with nothing but the tumour."""

from __future__ import annotations

import pytest
import torch

from bts_auto.train.augment.options import PositiveMiningOptions
from bts_auto.train.augment.positive_mining import PositiveMining


def sample() -> tuple[torch.Tensor, torch.Tensor]:
    """Label 1 in a cube of 10 voxels, label 2 in its core; a layer lies outside the brain."""
    image = torch.ones((2, 24, 24, 24))
    mask = torch.zeros((1, 24, 24, 24), dtype=torch.int16)
    mask[0, 7:17, 7:17, 7:17] = 1
    mask[0, 10:14, 10:14, 10:14] = 2
    mask[0, 0] = -1
    return image, mask


@pytest.mark.parametrize(("scale", "edge"), [(0.8, 8), (1.0, 10), (1.2, 12)])
def test_the_image_is_left_inside_the_scaled_outline(scale: float, edge: int) -> None:
    image, mask = sample()
    out, out_mask = PositiveMining(PositiveMiningOptions()).apply(image, mask.clone(), scale)
    kept = out[0].nonzero()
    assert (kept.amax(0) - kept.amin(0) + 1).tolist() == [edge] * 3
    assert out[0].sum() == edge**3
    assert torch.equal(out_mask, mask)


def test_labels_are_scaled_where_asked_for() -> None:
    image, mask = sample()
    mining = PositiveMining(PositiveMiningOptions(rescale_label=True))
    out, scaled = mining.apply(image, mask.clone(), 0.6)
    assert torch.equal(scaled[0] > 0, out[0] > 0)
    assert 0 < (scaled == 2).sum() < (mask == 2).sum()
    assert torch.equal(scaled == -1, mask == -1)


def test_labels_that_are_no_tumour_are_blanked_too() -> None:
    image, mask = sample()
    out, _ = PositiveMining(PositiveMiningOptions(labels=(2,))).apply(image, mask, 1.0)
    assert torch.equal(out[0] > 0, mask[0] == 2)


def test_a_sample_without_foreground_stays() -> None:
    image, mask = sample()
    out, _ = PositiveMining(PositiveMiningOptions()).apply(image.clone(), mask.clamp(max=0), 1.0)
    assert torch.equal(out, image)

"""Artefacts made in k-space."""

from __future__ import annotations

import pytest
import torch

from bts_auto.train.augment.kspace import Ghosting, Ghosts, Motion, Move, Spike, SpikeNoise
from bts_auto.train.augment.options import GhostingOptions, MotionOptions, SpikeOptions

NO_MASK = torch.zeros((1, 12, 16, 20), dtype=torch.int16)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_a_movement_before_the_scan_is_a_shift() -> None:
    image = noise(1, 12, 16, 20)
    out, _ = Motion(MotionOptions()).apply(image.clone(), NO_MASK, ((0, Move(0, (2.0, -3.0, 1.0), 1.0)),))
    # A whole number of voxels; the highest frequency of an even size is its own mirror image and no exact shift.
    torch.testing.assert_close(out, image.roll((2, -3, 1), (1, 2, 3)), rtol=0, atol=1e-4)


def test_a_late_movement_leaves_the_mean() -> None:
    image = noise(2, 12, 16, 20) + 4
    out, _ = Motion(MotionOptions()).apply(image.clone(), NO_MASK, ((1, Move(1, (2.0, 2.0, 2.0), 0.3)),))
    assert torch.equal(out[0], image[0])
    assert not torch.allclose(out[1], image[1], atol=0.1)
    assert out[1].mean().item() == pytest.approx(image[1].mean().item(), abs=1e-4)


@pytest.mark.parametrize(("axis", "dimension"), [(0, 3), (1, 2)])
def test_ghosts_of_a_point_lie_evenly_along_the_axis(axis: int, dimension: int) -> None:
    image = torch.zeros((1, 12, 16, 20))
    image[0, 6, 8, 10] = 1
    out, _ = Ghosting(GhostingOptions()).apply(image, NO_MASK, ((0, Ghosts(axis, 4, 0.4)),))
    step = out.shape[dimension] // 4
    bright = (out[0] > 0.05).nonzero()
    along = bright[:, dimension - 1]
    assert len(bright) == 4
    assert along.diff().tolist() == [step] * 3


def test_a_spike_is_one_pair_of_frequencies_with_the_drawn_strength() -> None:
    image = noise(1, 12, 16, 20) * 3
    out, _ = SpikeNoise(SpikeOptions()).apply(image.clone(), NO_MASK, ((0, Spike((2.0, -3.0, 4.0), 0.3, 0.5)),))
    added = (out - image)[0]
    spectrum = torch.fft.fftn(added).abs()
    assert set(map(tuple, (spectrum > spectrum.max() / 2).nonzero().tolist())) == {(2, 13, 4), (10, 3, 16)}
    assert added.std().item() == pytest.approx(0.5 * image.std().item(), rel=0.01)

"""Maps of the truth, and the losses by distance, against SciPy's transforms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from bts_auto import registry
from bts_auto.losses.maps import signed_distance
from bts_auto.losses.target import Target

GRID = np.indices((9, 12, 10)).astype(float)
BALL = ((GRID - np.array([4, 5, 5]).reshape(3, 1, 1, 1)) ** 2).sum(0) < 10
SPACING = (3.0, 1.5, 1.5)


def border(inside: np.ndarray) -> np.ndarray:
    """Voxels with background among all of their neighbours, diagonal ones too."""
    return inside & ~ndimage.binary_erosion(inside, np.ones((3,) * inside.ndim))


@pytest.mark.parametrize("inside", [BALL, BALL[4]])
def test_distance_from_half_a_voxel_outside_the_border_voxels(inside: np.ndarray) -> None:
    spacing = SPACING[3 - inside.ndim :]
    expected = ndimage.distance_transform_edt(~border(inside), sampling=np.array(spacing) / 1.5)
    found = signed_distance(Target(regions=torch.from_numpy(inside)[None, None]), spacing, 1)
    np.testing.assert_allclose(found[0, 0], np.where(inside, -expected, expected) - 0.5, atol=1e-5)


def test_what_is_nowhere_or_everywhere_has_no_boundary() -> None:
    regions = torch.zeros(1, 2, 3, 4, 5, dtype=torch.bool)
    regions[:, 1] = True
    found = signed_distance(Target(regions=regions), SPACING, 2)
    assert found[:, 0].unique().tolist() == [1]
    assert found[:, 1].unique().tolist() == [-1]


def test_classes_have_the_distances_of_their_channels() -> None:
    classes = torch.from_numpy(BALL.astype(np.int64))[None]
    both = Target(regions=torch.stack([classes == 0, classes == 1], dim=1))
    torch.testing.assert_close(signed_distance(Target(classes=classes), SPACING, 2), signed_distance(both, SPACING, 2))


def test_boundary_loss_is_the_integral_less_its_value_at_perfection() -> None:
    """Equation 5 of Kervadec et al.: the sum of probability times level set."""
    logits = torch.randn(1, 1, *BALL.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    target = Target(regions=torch.from_numpy(BALL)[None, None])
    level_set = signed_distance(target, SPACING, 1)
    loss = registry.component("loss", "boundary")(registry.options("loss", "boundary"))
    expected = (level_set * logits.sigmoid()).mean() - (level_set * target.regions).mean()
    found = loss(logits, Target(regions=target.regions, maps={"signed_distance": level_set}))
    torch.testing.assert_close(found, expected)


def test_hausdorff_loss_weighs_far_errors_more() -> None:
    """The same missed voxels cost more the farther they lie from the boundary."""
    regions = torch.from_numpy(BALL)[None, None]
    maps = {"signed_distance": signed_distance(Target(regions=regions), (1.0,) * 3, 1)}
    loss = registry.component("loss", "hausdorff")(registry.options("loss", "hausdorff"))
    perfect = 60.0 * (2 * regions.double() - 1)
    costs = []
    for x in (9, 0):
        wrong = perfect.clone()
        wrong[0, 0, 4, 5, x] = 60
        costs.append(loss(wrong, Target(regions=regions, maps=maps)).item() * BALL.size)
    # The ball's border voxels in this row are at 2 and 8.
    assert costs == pytest.approx([(1 - 0.5) ** 2, (2 - 0.5) ** 2])

"""Morphology of the previous stage's mask, against scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import morphology

from bts_auto.train.augment.options import PreviousMorphologyOptions
from bts_auto.train.augment.previous_morphology import Operation, PreviousMorphology, apply_operation

OPTIONS = PreviousMorphologyOptions(labels=(1, 2))
REFERENCE = {
    "dilate": morphology.binary_dilation,
    "erode": morphology.binary_erosion,
    "open": morphology.binary_opening,
    "close": morphology.binary_closing,
}


def balls() -> np.ndarray:
    grid = np.stack(np.meshgrid(*[np.arange(30)] * 3, indexing="ij"))
    centres = [(12, 12, 12, 6), (17, 17, 16, 4), (12, 20, 14, 1)]
    near = [((grid - np.reshape(c[:3], (3, 1, 1, 1))) ** 2).sum(0) <= c[3] ** 2 for c in centres]
    return np.any(near, 0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("radius", [1, 3])
@pytest.mark.parametrize("name", sorted(REFERENCE))
def test_operations_equal_those_with_a_ball(name: str, radius: int) -> None:
    assert np.array_equal(apply_operation(balls(), name, radius), REFERENCE[name](balls(), morphology.ball(radius)))


def test_what_one_label_gains_the_other_loses() -> None:
    previous = torch.zeros((2, 1, 8, 8), dtype=torch.int16)
    previous[1, 0, :, :4], previous[1, 0, :, 4:] = 1, 2
    before = previous[0].clone()
    _, out = PreviousMorphology(OPTIONS).apply(torch.zeros((1, 1, 8, 8)), previous, (Operation(1, "dilate", 2.0),))
    assert out[1, 0, 0].tolist() == [1, 1, 1, 1, 1, 1, 2, 2]
    assert torch.equal(out[0], before)


@pytest.mark.parametrize("name", sorted(REFERENCE))
def test_working_in_the_labels_box_equals_working_everywhere(name: str) -> None:
    mask = torch.from_numpy(np.stack([balls() * 0, balls()])).to(torch.int16)
    _, out = PreviousMorphology(OPTIONS).apply(torch.zeros((1, 30, 30, 30)), mask, (Operation(1, name, 2.5),))
    assert np.array_equal(out[1].numpy() == 1, apply_operation(balls(), name, 2.5))


def test_absent_labels_stay_absent() -> None:
    mask = torch.zeros((2, 6, 6, 6), dtype=torch.int16)
    _, out = PreviousMorphology(OPTIONS).apply(torch.zeros((1, 6, 6, 6)), mask, (Operation(2, "dilate", 3.0),))
    assert (out == 0).all()


def test_draws_are_nnunets() -> None:
    transform = PreviousMorphology(OPTIONS)
    drawn = [transform.draw(np.random.default_rng(n), 1) for n in range(3000)]
    operations = [operation for one in drawn if one for operation in one]
    # A sample is left alone with 0.6, and with a quarter of the rest because neither of two labels was chosen.
    assert sum(one is not None for one in drawn) / 3000 == pytest.approx(0.3, abs=0.04)
    assert {operation.name for operation in operations} == set(REFERENCE)
    radii = [operation.radius for operation in operations]
    assert (min(radii), max(radii)) == pytest.approx((1, 8), rel=0.05)
    assert len({tuple(o.label for o in one) for one in drawn if one}) == 4  # both orders occur

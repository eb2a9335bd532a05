"""Samples that are augmented together get what each gets alone, to rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bts_auto import registry
from bts_auto.plan.schema import Component
from bts_auto.train.augment.defaults import default_augmentation
from bts_auto.train.augment.pipeline import Augmentation
from tests.train.augment.test_contract import INTENSITIES, NEEDED, SIZE

SAMPLES = 4
# Images are noise of standard deviation 1; positions in a box are rounded to about 1e-6 of its edge.
_CLOSE = {"rtol": 1e-4, "atol": 2e-4}


def assert_same_as_alone(augmentation: Augmentation) -> None:
    """Compare on boxes that are clipped at some distance, so that they differ in size from sample to sample."""
    draws = [augmentation.draw(0, 3, index, "case_1") for index in range(SAMPLES)]
    rng = np.random.default_rng(2)
    images, masks, offsets = [], [], []
    for number, draw in enumerate(draws):
        size = [last - first - (number if draw.warped and axis else 0) for axis, (first, last) in enumerate(draw.reach)]
        images.append(torch.from_numpy(rng.standard_normal((2, *size), dtype=np.float32)))
        masks.append(torch.from_numpy(rng.integers(-1, 3, (2, *size)).astype(np.int16)))
        offsets.append(tuple(first for first, _ in draw.reach))
    alone = [
        augmentation.apply(draw, image.clone(), mask.clone(), offset)
        for draw, image, mask, offset in zip(draws, images, masks, offsets, strict=True)
    ]
    image, mask = augmentation.apply_batch(draws, images, masks, offsets)
    torch.testing.assert_close(image, torch.stack([one[0] for one in alone]), **_CLOSE)
    assert torch.equal(mask, torch.stack([one[1] for one in alone]))


def chances(component: Component) -> dict[str, float]:
    """Probabilities that let a transform act on some samples and channels and leave others alone."""
    fields = type(registry.options("augmentation", component.name, component.options)).model_fields
    return {field: 0.6 for field in fields if field.startswith("probability")}


@pytest.mark.parametrize("name", registry.names("augmentation"))
def test_each_transform(name: str) -> None:
    plain = Component(name=name, options=NEEDED.get(name, {}))
    component = Component(name=name, options=dict(plain.options) | chances(plain))
    assert_same_as_alone(Augmentation([component], SIZE, channels=2, intensities=INTENSITIES))


@pytest.mark.parametrize("size", [(24, 28, 26), (6, 32, 28), (40, 32)])
def test_the_default_list(size: tuple[int, ...]) -> None:
    """Cubes, slabs that are transformed in plane, and slices."""
    axes = tuple(range(len(size)))
    made = default_augmentation(size, len(size), axes, mask_channels=(1,))
    often = [Component(name=one.name, options=dict(one.options) | chances(one)) for one in made]
    assert_same_as_alone(Augmentation(often, size, channels=2))


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("retain_stats", [False, True])
def test_every_sort_of_gamma(invert: bool, retain_stats: bool) -> None:
    options = {"probability": 1.0, "invert": invert, "retain_stats": retain_stats}
    assert_same_as_alone(Augmentation([Component(name="gamma", options=options)], SIZE, channels=2))


def test_resolutions_that_differ_by_axis() -> None:
    options = {"probability": 1.0, "synchronize_axes": False, "scale": (0.1, 1.0)}
    assert_same_as_alone(Augmentation([Component(name="low_resolution", options=options)], SIZE, channels=2))


def test_wide_kernels_on_short_axes() -> None:
    options = {"probability": 1.0, "sigma": (0.3, 4.0)}
    assert_same_as_alone(Augmentation([Component(name="gaussian_blur", options=options)], (3, 14, 1), channels=2))

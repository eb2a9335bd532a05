"""The default list is nnU-Net v2's."""

from __future__ import annotations

import math

import pytest

from bts_auto import registry
from bts_auto.train.augment.defaults import default_augmentation


def test_order_and_probabilities() -> None:
    components = default_augmentation((128, 128, 128), 3, (0, 1, 2))
    names = [component.name for component in components]
    assert names == [
        "spatial", "gaussian_noise", "gaussian_blur", "brightness", "contrast", "low_resolution", "gamma", "gamma",
        "mirror",
    ]  # fmt: skip
    options = [registry.options("augmentation", one.name, one.options) for one in components]
    assert [one.probability for one in options[1:8]] == [0.1, 0.2, 0.15, 0.15, 0.25, 0.1, 0.3]
    assert [one.probability_per_channel for one in options[1:8]] == [1, 0.5, 1, 1, 0.5, 1, 1]
    assert [one.invert for one in options[6:8]] == [True, False]


@pytest.mark.parametrize(
    ("patch", "degrees", "in_plane"),
    [((128, 128, 128), 30, False), ((40, 120, 100), 30, False), ((40, 121, 100), 180, True), ((64, 64), 180, False),
     ((64, 96), 180, False), ((64, 97), 15, False)],
)  # fmt: skip
def test_rotation_follows_the_patch(patch: tuple[int, ...], degrees: float, in_plane: bool) -> None:
    components = default_augmentation(patch, len(patch), ())
    assert components[0].options["rotation"] == pytest.approx((-math.radians(degrees), math.radians(degrees)))
    assert components[0].options["in_plane"] is in_plane
    assert components[5].options.get("ignore_axes", ()) == ((0,) if in_plane else ())


def test_what_was_normalised_inside_the_mask_is_masked_again_after_all_else() -> None:
    components = default_augmentation((64, 64, 64), 3, (0,), mask_channels=(1, 2))
    assert [one.name for one in components[-2:]] == ["mirror", "mask_outside"]
    assert components[-1].options == {"channels": (1, 2)}


def test_a_previous_stage_adds_its_transforms() -> None:
    components = default_augmentation((64, 64, 64), 3, (), previous_labels=(1, 2))
    assert [one.name for one in components[-2:]] == ["previous_morphology", "previous_drop_component"]
    options = [registry.options("augmentation", one.name, one.options) for one in components[-2:]]
    assert [one.probability for one in options] == [0.4, 0.2]
    assert options[0].radius == (1, 8)
    assert options[1].largest_share == 0.15

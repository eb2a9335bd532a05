"""Drawing before reading: what is read, and that draws do not depend on each other."""

from __future__ import annotations

import math

import pytest
import torch

from bts_auto.errors import PlanError
from bts_auto.plan.schema import Component
from bts_auto.train.augment.defaults import default_augmentation
from bts_auto.train.augment.pipeline import Augmentation

PATCH = (16, 16, 16)
SPATIAL = Component(name="spatial", options={"probability_rotation": 1.0})


def test_a_sample_without_a_spatial_transform_reads_only_its_patch() -> None:
    draw = Augmentation([Component(name="gamma")], PATCH, channels=1).draw(0, 0, 0)
    assert draw.read_box((-3, 2, 50), (20, 20, 20)) == [(-3, 13), (2, 18), (50, 66)]


def test_about_64_percent_of_samples_of_the_default_list_do() -> None:
    augmentation = Augmentation(default_augmentation(PATCH, 3, (0, 1, 2)), PATCH, channels=1)
    warped = sum(augmentation.draw(0, step, 0).warped for step in range(2000)) / 2000
    assert abs(warped - 0.36) < 4 * math.sqrt(0.36 * 0.64 / 2000)


def test_a_box_stops_at_a_margin_around_the_case() -> None:
    draw = Augmentation([SPATIAL], PATCH, channels=1).draw(0, 0, 0)
    for first, last in draw.read_box((-4, 10, 2), (20, 20, 20)):
        assert first >= -2
        assert last <= 22


@pytest.mark.parametrize("far", [-500, 500])
def test_a_patch_far_outside_reads_only_padding(far: int) -> None:
    draw = Augmentation([SPATIAL], PATCH, channels=1).draw(0, 0, 0)
    box = draw.read_box((far,) * 3, (20, 20, 20))
    assert all(last - first == 2 and (last <= 0 or first >= 20) for first, last in box)


def test_a_clipped_box_gives_the_same_patch_as_the_whole_one() -> None:
    augmentation = Augmentation([SPATIAL], PATCH, channels=1)
    for step in range(10):
        draw = augmentation.draw(0, step, 0)
        lower = (-6, 3, 9)
        results = []
        for shape in ((20, 20, 20), (10**6,) * 3):
            box = draw.read_box(lower, shape) if shape[0] == 20 else [
                (at + first, at + last) for at, (first, last) in zip(lower, draw.reach, strict=True)
            ]  # fmt: skip
            grid = torch.meshgrid(*[torch.arange(first, last) for first, last in box], indexing="ij")
            inside = torch.stack([(axis >= 0) & (axis < 20) for axis in grid]).all(0)
            image = (torch.sin(grid[0] * 1.7 + grid[1] * 0.9 + grid[2] * 2.3) * inside)[None]
            mask = torch.where(inside, (grid[0] // 3 + grid[1] // 4) % 3, -1).to(torch.int16)[None]
            offset = [first - at for (first, _), at in zip(box, lower, strict=True)]
            results.append(augmentation.apply(draw, image, mask, offset))
        torch.testing.assert_close(results[0][0], results[1][0], rtol=0, atol=1e-5)
        assert torch.equal(results[0][1], results[1][1])


def test_transforms_draw_independently_of_those_before_them() -> None:
    one = Augmentation([Component(name="brightness"), Component(name="gamma")], PATCH, channels=2)
    always = {"probability": 1.0}
    other = Augmentation([Component(name="brightness", options=always), Component(name="gamma")], PATCH, channels=2)
    for step in range(30):
        first = [parameters for transform, parameters in one.draw(0, step, 0).steps if "Gamma" in str(transform)]
        second = [parameters for transform, parameters in other.draw(0, step, 0).steps if "Gamma" in str(transform)]
        assert first == second


def test_seed_step_and_index_all_matter() -> None:
    augmentation = Augmentation([Component(name="brightness", options={"probability": 1.0})], PATCH, channels=1)
    numbers = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    factors = {augmentation.draw(*three).steps[0][1] for three in numbers}
    assert len(factors) == 4


def test_spatial_must_come_first() -> None:
    with pytest.raises(PlanError, match="spatial must be the first"):
        Augmentation([Component(name="gamma"), SPATIAL], PATCH, channels=1)


def test_unknown_transform_names_the_nearest() -> None:
    with pytest.raises(PlanError, match="did you mean 'gamma'"):
        Augmentation([Component(name="gama")], PATCH, channels=1)

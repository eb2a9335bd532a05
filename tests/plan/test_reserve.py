"""Time for the final validation."""

from __future__ import annotations

import pytest

from bts_auto.plan.reserve import patches_to_visit, reserved_seconds, validation_seconds


@pytest.mark.parametrize(
    ("shape", "patch", "tiles"),
    [((64, 64, 64), (64, 64, 64), 1), ((65, 64, 64), (64, 64, 64), 2), ((128, 96, 64), (64, 64, 64), 6),
     ((10, 64, 64), (64, 64), 10)],
)  # fmt: skip
def test_tiles_cover_a_volume(shape: tuple, patch: tuple, tiles: int):
    assert patches_to_visit(shape, patch, 0.5) == tiles


def test_mirrored_copies_are_paid_for_while_they_are_cheap():
    assert reserved_seconds(10, 1.0, 3, 1e6) == validation_seconds(10, 1.0, 3)
    assert reserved_seconds(10, 1.0, 3, 100) == validation_seconds(10, 1.0)


def test_training_keeps_half_of_the_budget():
    assert reserved_seconds(1000, 1.0, 3, 100) == 50

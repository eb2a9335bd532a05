"""Time for the final validation."""

from __future__ import annotations

import pytest

from bts_auto.plan.reserve import (
    affordable,
    patches_to_visit,
    reserved_seconds,
    start_seconds,
    validation_seconds,
)


@pytest.mark.parametrize(
    ("shape", "patch", "tiles"),
    [((64, 64, 64), (64, 64, 64), 1), ((65, 64, 64), (64, 64, 64), 2), ((128, 96, 64), (64, 64, 64), 6),
     ((10, 64, 64), (64, 64), 10)],
)  # fmt: skip
def test_tiles_cover_a_volume(shape: tuple, patch: tuple, tiles: int):
    assert patches_to_visit(shape, patch, 0.5) == tiles


def test_mirrored_copies_are_paid_for_while_they_are_cheap():
    everything = validation_seconds(10, 1.0, 3, trying_tiles=True)
    assert reserved_seconds(10, 1.0, 3, 1e6) == start_seconds(1e6) + everything
    dear = 4 * everything - 1
    assert reserved_seconds(10, 1.0, 3, dear) == start_seconds(dear) + validation_seconds(10, 1.0, 3)
    assert reserved_seconds(10, 1.0, 3, 100) == start_seconds(100) + validation_seconds(10, 1.0)


def test_training_keeps_most_of_a_half_of_the_budget():
    assert reserved_seconds(1000, 1.0, 3, 100) == start_seconds(100) + 50


@pytest.mark.parametrize("budget", [40, 100, 500, 620, 700, 900, 1e4])
def test_what_is_reserved_suffices_for_what_is_done(budget: float):
    reserved = reserved_seconds(10, 1.0, 3, budget)
    trying, mirrored = affordable(reserved, 10, 1.0, 3, budget)
    spent = start_seconds(budget) + validation_seconds(10, 1.0, 3 if mirrored else 0, trying_tiles=trying)
    assert spent <= reserved + 0.02 * budget


def test_time_that_is_left_pays_for_mirrors_before_tiles():
    assert affordable(1000, 10, 1.0, 3, 1000) == (True, True)
    assert affordable(150, 10, 1.0, 3, 1000) == (False, True)
    assert affordable(80, 10, 1.0, 3, 1000) == (True, False)
    assert affordable(0, 10, 1.0, 3, 1000) == (False, False)

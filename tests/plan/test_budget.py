"""Spending a time budget."""

from __future__ import annotations

import itertools

import pytest

from bts_auto.errors import PlanError
from bts_auto.plan.budget import (
    ENOUGH_STEPS,
    Candidate,
    candidates,
    choose,
    coarser,
    compared,
    price_of,
    steps_within,
    training_for,
)
from bts_auto.plan.measured import Limits
from bts_auto.plan.patch import NothingFits
from bts_auto.plan.presets import PRESETS

SPACING, MEDIAN = (1.0, 1.0, 1.0), (140.0, 160.0, 145.0)


def looked_at(budget: float, tflops: float = 0.3, memory_gb: float = 8, batch: int = 2) -> list[Candidate]:
    limits, preset = Limits(memory_gb), PRESETS["plain"]
    return list(
        candidates(SPACING, MEDIAN, preset, limits, (2, 3), lambda tflop, width: tflop / tflops, budget, 1, batch)
    )


def chosen(budget: float, tflops: float = 0.3, memory_gb: float = 8) -> Candidate:
    return choose(looked_at(budget, tflops, memory_gb), budget)


def test_more_time_never_costs_dice():
    prices = [chosen(budget).price for budget in (120, 300, 900, 1800, 7200, 86400)]
    assert prices == sorted(prices, reverse=True)


def test_a_fast_machine_trains_more():
    slow, fast = chosen(1800, 0.1), chosen(1800, 10)
    assert fast.price < slow.price
    assert fast.grid.spacing <= slow.grid.spacing


@pytest.mark.parametrize("budget", [900, 1800, 7200])
def test_steps_and_validation_fit_the_budget(budget: float):
    found = chosen(budget)
    assert 0 < found.steps * found.step_seconds < budget


def test_enough_steps_come_before_resolution_and_width():
    assert price_of(2.0, 16, 1.0, ENOUGH_STEPS) < price_of(1.0, 32, 1.0, ENOUGH_STEPS // 4)


def test_steps_beyond_enough_do_not():
    assert price_of(1.0, 32, 1.0, ENOUGH_STEPS) < price_of(1.5, 16, 1.0, 4 * ENOUGH_STEPS)


def test_more_steps_always_gain_and_ever_less():
    prices = [price_of(1.0, 32, 1.0, ENOUGH_STEPS * 2**n) for n in range(-3, 8)]
    gains = [before - after for before, after in itertools.pairwise(prices)]
    assert all(gain > 0 for gain in gains)
    assert gains == sorted(gains, reverse=True)


def test_a_validation_that_takes_most_of_the_budget_leaves_no_steps():
    assert steps_within(1000, 3.0, 1, 333, 0) > 0
    assert steps_within(1000, 3.0, 1, 334, 0) == 0


def test_a_longer_validation_leaves_fewer_steps():
    assert steps_within(1800, 1.0, 2, 100, 3) < steps_within(1800, 1.0, 2, 10, 3)


def test_coarse_axes_are_left_alone():
    grid = coarser((5.0, 1.0, 1.0), (30.0, 200.0, 200.0), 2.0)
    assert grid.spacing == (5.0, 2.0, 2.0)
    assert grid.median == (30.0, 100.0, 100.0)


def test_a_larger_batch_has_fewer_steps():
    small, large = (max(one.steps for one in looked_at(900, batch=batch)) for batch in (2, 5))
    assert 2 * large < small


def test_what_was_not_taken_is_the_best_of_its_kind():
    found = looked_at(900)
    taken, *others = compared(found, chosen(900))
    assert taken == chosen(900)
    assert min(one.price for one in others) >= taken.price
    assert {one.grid.spacing for one in others} >= {one.grid.spacing for one in found} - {taken.grid.spacing}
    assert {one.width for one in others} >= {16, 24, 32} - {taken.width}


def test_too_little_memory_is_not_called_too_little_time():
    with pytest.raises(NothingFits):
        chosen(900, memory_gb=1e-4)


def test_no_time_is_said():
    with pytest.raises(PlanError, match="no time for a single step beside the validation"):
        chosen(10)


@pytest.mark.parametrize("steps", [1, 49, 50, 99, 101, 1234])
def test_epochs_hold_the_steps(steps: int):
    training = training_for(steps)
    assert training["iterations"] <= 50
    assert 0.97 * steps <= training["epochs"] * training["iterations"] <= steps

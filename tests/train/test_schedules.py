"""Schedules against torch's own and against their definitions."""

from __future__ import annotations

import itertools

import pytest
import torch

from bts_auto import registry
from bts_auto.errors import PlanError

NAMES = registry.names("schedule")


def schedule(name: str, **options):
    return registry.component("schedule", name)(registry.options("schedule", name, options))


def torch_factors(make, steps: int) -> list[float]:
    """The factors that a scheduler of torch's gives at each step."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer)
    factors = []
    for _ in range(steps):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return factors


def test_poly_is_torch_s() -> None:
    wanted = torch_factors(lambda o: torch.optim.lr_scheduler.PolynomialLR(o, total_iters=20, power=0.9), 20)
    assert [schedule("poly")(step / 20) for step in range(20)] == pytest.approx(wanted)


def test_cosine_is_torch_s() -> None:
    wanted = torch_factors(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 20, eta_min=0.1), 20)
    assert [schedule("cosine", final=0.1)(step / 20) for step in range(20)] == pytest.approx(wanted)


def test_one_cycle_is_torch_s() -> None:
    """torch counts its phases in steps less one, hence 101 steps and a rise of 30 % that begins one step early."""
    wanted = torch_factors(
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, max_lr=1.0, total_steps=1001, cycle_momentum=False), 1001
    )
    mine = [schedule("one_cycle")(step / 1000) for step in range(1001)]
    assert mine == pytest.approx(wanted, abs=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_factors_stay_between_nothing_and_all(name: str) -> None:
    factors = [schedule(name)(step / 50) for step in range(51)]
    assert all(0 <= factor <= 1 for factor in factors)
    assert max(factors) == pytest.approx(1)


@pytest.mark.parametrize("name", NAMES)
def test_a_warm_up_rises_in_equal_steps_and_then_the_schedule_begins(name: str) -> None:
    warm = schedule(name, warm_up=0.2, warm_up_start=0.1)
    rises = [b - a for a, b in itertools.pairwise(warm(step / 50) for step in range(10))]
    assert warm(0.0) == pytest.approx(0.1)
    assert rises == pytest.approx([rises[0]] * len(rises))
    assert warm(0.2) == pytest.approx(schedule(name)(0.0))
    assert warm(1.0) == pytest.approx(schedule(name)(1.0))


@pytest.mark.parametrize("name", NAMES)
def test_bad_options_are_refused(name: str) -> None:
    with pytest.raises(PlanError, match=r"did you mean 'warm_up'"):
        registry.options("schedule", name, {"warmup": 0.1})
    with pytest.raises(PlanError, match="warm_up"):
        registry.options("schedule", name, {"warm_up": 1.0})

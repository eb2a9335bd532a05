"""Planning for less memory where real steps do not fit."""

from __future__ import annotations

import pytest

from bts_auto.errors import PlanError
from bts_auto.events import Observer
from bts_auto.plan.patch import NothingFits
from bts_auto.steps.fitting import fitting
from bts_auto.steps.trials import OutOfMemory


class Memory:
    """Stands for a planner: steps of more than `there` GB fail; remembers what was planned for."""

    def __init__(self, there: float) -> None:
        self.there, self.tried = there, list[float]()

    def __call__(self, gb: float) -> float:
        self.tried.append(gb)
        if gb > self.there:
            raise OutOfMemory("killed", where="3d_fullres")
        return gb


def test_memory_that_seemed_to_be_there_is_halved_after_a_second_failure():
    memory = Memory(2.0)
    assert fitting(8.0, memory, Observer()) == pytest.approx(1.6)
    assert memory.tried == pytest.approx([8.0, 6.4, 3.2, 1.6])


def test_what_a_step_took_tells_what_fits():
    def make(gb: float) -> float:
        if gb > 6.0:
            raise OutOfMemory("it takes 9.6 GB of 6 GB", where="2d", most_gb=5.0, share=6 / 9.6)
        return gb

    assert fitting(8.0, make, Observer()) == pytest.approx(4.9)


def test_a_small_step_that_fails_tells_more_than_the_plan():
    def make(gb: float) -> float:
        if gb > 1.0:
            raise OutOfMemory("killed", where="3d_fullres", most_gb=1.0)
        return gb

    assert fitting(8.0, make, Observer()) == pytest.approx(0.8)


def test_the_last_size_that_was_tried_is_named():
    memory = Memory(0.0)
    with pytest.raises(PlanError, match=r"3d_fullres: no plan fits.*killed.*free memory") as raised:
        fitting(8.0, memory, Observer())
    assert f"{memory.tried[-1]:.2g} GB" in str(raised.value)


def test_where_nothing_smaller_can_be_planned_the_failed_step_is_named():
    def make(gb: float) -> float:
        if gb < 5.0:
            raise NothingFits("no patch is small enough")
        raise OutOfMemory("killed", where="2d")

    with pytest.raises(PlanError, match=r"a step of 6\.4 GB is too large"):
        fitting(8.0, make, Observer())


@pytest.mark.parametrize("there", [8.0, 7.0])
def test_a_plan_that_cannot_be_says_why_itself(there: float):
    def make(gb: float) -> float:
        if gb > there:
            raise OutOfMemory("killed", where="2d")
        raise PlanError("no time")

    with pytest.raises(PlanError, match=r"^no time$"):
        fitting(8.0, make, Observer())


def test_a_step_that_takes_more_than_is_planned_for_shrinks_the_plan_by_what_it_took():
    tried: list[float] = []

    def make(gb: float) -> float:
        tried.append(gb)
        if gb > 2.0:  # a recipe whose steps take three times as much as the plan for so many GB
            raise OutOfMemory("it takes too much", where="2d", most_gb=6.0, share=6 / (3 * gb))
        return gb

    assert fitting(8.0, make, Observer()) == pytest.approx(1.96)
    assert len(tried) == 2

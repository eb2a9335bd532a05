"""The fraction of the training that is done."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bts_auto.train.pace import Pace

moves = st.lists(st.tuples(st.integers(1, 30), st.integers(0, 200)), max_size=5)


def test_without_a_move_it_is_a_straight_line() -> None:
    pace = Pace(8)
    assert [pace.fraction(step) for step in range(9)] == [step / 8 for step in range(9)]


@given(end=st.integers(1, 200), moved=moves)
def test_it_never_falls_and_ends_at_one(end: int, moved: list[tuple[int, int]]) -> None:
    pace, step, before = Pace(end), 0, 0.0
    for steps, new_end in moved:
        for _ in range(steps):
            if step < pace.end:
                step += 1
            assert before <= pace.fraction(step) <= 1
            before = pace.fraction(step)
        pace.move_end(step, step + new_end)
        assert pace.fraction(step) >= before or pace.end == step
    assert pace.fraction(pace.end) == 1


@given(end=st.integers(1, 200), moved=moves)
def test_it_survives_being_saved(end: int, moved: list[tuple[int, int]]) -> None:
    pace, step = Pace(end), 0
    for steps, new_end in moved:
        step = min(step + steps, pace.end)
        pace.move_end(step, step + new_end)
    again = Pace(**pace.to_json())
    assert [pace.fraction(s) for s in range(step, pace.end + 1)] == [
        again.fraction(s) for s in range(step, pace.end + 1)
    ]


def test_a_cool_down_is_never_later_than_the_end() -> None:
    pace = Pace(100)
    pace.cool_down(95, 20)
    assert pace.end == 100
    pace = Pace(100)
    pace.cool_down(40, 20)
    assert pace.end == 60
    assert pace.fraction(40) == 0.4


def test_a_budget_moves_the_end_both_ways_but_not_beyond_the_limit() -> None:
    pace = Pace(1000)
    assert pace.fit(10, seconds_left=50, seconds_per_step=1, limit=1000)
    assert pace.end == 60
    assert pace.fit(20, seconds_left=80, seconds_per_step=1, limit=1000)
    assert pace.end == 100
    assert pace.fit(30, seconds_left=1e6, seconds_per_step=1, limit=1000)
    assert pace.end == 1000


def test_flicker_of_the_clock_moves_nothing() -> None:
    pace = Pace(1010)
    assert not pace.fit(10, seconds_left=1020, seconds_per_step=1, limit=2000)


def test_no_time_left_ends_it_at_once() -> None:
    pace = Pace(1000)
    pace.fit(10, seconds_left=-5, seconds_per_step=1, limit=1000)
    assert pace.end == 10
    assert pace.fraction(10) == 1


def test_a_cooling_run_is_not_prolonged() -> None:
    pace = Pace(1000)
    pace.cool_down(100, 10)
    assert not pace.fit(101, seconds_left=1e6, seconds_per_step=1, limit=1000)

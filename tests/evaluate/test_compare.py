"""Comparing two sets of scores."""

from __future__ import annotations

import pytest

from bts_auto.errors import DataError
from bts_auto.evaluate.compare import compare_scores
from bts_auto.evaluate.scores import Scores


def _scores(**dice: float) -> Scores:
    return Scores.of({case: {"WT": {"dice": value, "iou": value / 2}} for case, value in dice.items()})


def test_common_cases_are_compared_in_pairs() -> None:
    first, second = _scores(a=0.9, b=0.8, c=0.7), _scores(b=0.6, c=0.6, d=0.1)
    found = compare_scores(first, second)["WT"]["dice"]
    assert found.n == 2
    assert found.difference == pytest.approx(0.15)
    assert found.effect == 1


def test_nothing_in_common_is_refused() -> None:
    with pytest.raises(DataError, match="no case"):
        compare_scores(_scores(a=0.9), _scores(b=0.9))
    with pytest.raises(DataError, match="region and metric"):
        compare_scores(_scores(a=0.9), Scores.of({"a": {"liver": {"dice": 0.5}}}))

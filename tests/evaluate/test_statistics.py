"""Summaries and paired tests against SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from bts_auto.evaluate.statistics import bootstrap_interval, compare_paired, holm, summarise


def test_summary_leaves_undefined_cases_out_and_counts_the_rest() -> None:
    found = summarise([1.0, math.nan, 3.0, 5.0])
    assert (found.n, found.mean, found.median, found.q1, found.q3) == (3, 3.0, 3.0, 2.0, 4.0)
    assert found.low < found.mean < found.high


def test_summary_of_nothing() -> None:
    found = summarise([math.nan])
    assert found.n == 0
    assert found.to_json()["mean"] is None


def test_bootstrap_interval_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).normal(0.8, 0.1, 40)
    expected = stats.bootstrap((values,), np.mean, method="percentile", rng=1).confidence_interval
    assert bootstrap_interval(values) == pytest.approx((expected.low, expected.high), abs=3e-3)


def test_bootstrap_interval_is_the_same_every_time() -> None:
    values = np.arange(9.0)
    assert bootstrap_interval(values) == bootstrap_interval(values)


def test_paired_test_equals_scipy() -> None:
    generator = np.random.default_rng(1)
    first, second = generator.normal(0.82, 0.1, 25), generator.normal(0.8, 0.1, 25)
    found = compare_paired(first, second)
    assert found.p_value == pytest.approx(stats.wilcoxon(first, second).pvalue)
    assert found.difference == pytest.approx((first - second).mean())


@pytest.mark.parametrize(("shift", "effect"), [(0.1, 1.0), (-0.1, -1.0), (0.0, 0.0)])
def test_effect_points_to_the_better_one(shift: float, effect: float) -> None:
    scores = np.linspace(0.5, 0.9, 12)
    assert compare_paired(scores + shift, scores).effect == pytest.approx(effect)


def test_paired_test_uses_cases_where_both_are_defined() -> None:
    assert compare_paired([0.5, math.nan, 0.7], [0.4, 0.2, math.nan]).n == 1


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.03, 0.04, 0.05 times 4, 3, 2, 1, each at least the one before.
    assert holm([0.04, 0.01, math.nan, 0.03, 0.05])[:2] == pytest.approx([0.09, 0.04])
    assert holm([0.04, 0.01, math.nan, 0.03, 0.05])[3:] == pytest.approx([0.09, 0.09])
    assert holm([0.6, 0.7]) == [1.0, 1.0]

"""Comparing sets of scores of the same cases."""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bts_auto.errors import DataError
from bts_auto.evaluate.metric import resolve
from bts_auto.evaluate.scores import Scores
from bts_auto.evaluate.statistics import PairedTest, compare_paired, holm
from bts_auto.files import write_json, write_text

COMPARISON_VERSION = 1
_SIGNIFICANT = 0.05
_COLUMNS = ("n", "difference", "low", "high", "effect", "p_value")


@dataclass(frozen=True)
class Comparison:
    """Two named sets of scores over their common cases: the first minus the second.

    Attributes
    ----------
    first, second : str
        Their names.
    cases : tuple of str
        The cases that both have.
    tests : dict
        ``tests[region][metric]``.
    adjusted : dict
        ``adjusted[region][metric]``: the p-value by Holm's method over all pairs that were compared with this one.
    """

    first: str
    second: str
    cases: tuple[str, ...]
    tests: Mapping[str, Mapping[str, PairedTest]]
    adjusted: Mapping[str, Mapping[str, float]]

    def better(self, region: str, metric: str) -> str:
        """The name of the set that is better where the adjusted p-value is below 0.05, else ""."""
        (named,) = resolve([metric])
        if named.metric.better == "neither" or not self.adjusted[region][metric] < _SIGNIFICANT:
            return ""
        higher = self.tests[region][metric].effect > 0
        return self.first if higher == (named.metric.better == "higher") else self.second

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        tests: dict[str, dict[str, dict[str, Any]]] = {
            region: {
                metric: dict(test.to_json())
                | {"p_adjusted": _plain(self.adjusted[region][metric]), "better": self.better(region, metric) or None}
                for metric, test in per.items()
            }
            for region, per in self.tests.items()
        }
        return {"first": self.first, "second": self.second, "cases": list(self.cases), "tests": tests}


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def compare_scores(first: Scores, second: Scores) -> dict[str, dict[str, PairedTest]]:
    """For each region and metric that both have, a paired test over their common cases: the first minus the second.

    Returns
    -------
    dict of str to dict of str to PairedTest
        ``tests[region][metric]``.

    Raises
    ------
    DataError
        When they have no case, or no region and metric, in common.
    """
    common = _common(first, second)
    if not common:
        raise DataError("the two sets of scores have no case in common")
    regions = [region for region in first.regions if region in second.regions]
    metrics = [metric for metric in first.metrics if metric in second.metrics]
    if not regions or not metrics:
        raise DataError("the two sets of scores have no region and metric in common")
    return {
        region: {
            metric: compare_paired(
                [first.cases[case][region][metric] for case in common],
                [second.cases[case][region][metric] for case in common],
            )
            for metric in metrics
        }
        for region in regions
    }


def _common(first: Scores, second: Scores) -> tuple[str, ...]:
    return tuple(case for case in first.cases if case in second.cases)


def compare_all(named: Mapping[str, Scores]) -> list[Comparison]:
    """Every pair of named sets of scores, in their order; pairs without a common case are left out.

    With more than two sets, p-values are adjusted within each region and metric for the number of pairs.

    References
    ----------
    Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6 (1979).
    """
    pairs = [(a, b) for a, b in itertools.combinations(named, 2) if _common(named[a], named[b])]
    tests = {(a, b): compare_scores(named[a], named[b]) for a, b in pairs}
    adjusted: dict[tuple[str, str], dict[str, dict[str, float]]] = {pair: {} for pair in pairs}
    for region, metric in {(r, m): None for per in tests.values() for r, found in per.items() for m in found}:
        having = [pair for pair in pairs if metric in tests[pair].get(region, {})]
        values = holm([tests[pair][region][metric].p_value for pair in having])
        for pair, value in zip(having, values, strict=True):
            adjusted[pair].setdefault(region, {})[metric] = value
    return [Comparison(a, b, _common(named[a], named[b]), tests[a, b], adjusted[a, b]) for a, b in pairs]


def save_comparisons(path: Path, comparisons: Sequence[Comparison]) -> None:
    """Write `path` (JSON), and one row per pair, region and metric as CSV beside it."""
    write_json(path, {"version": COMPARISON_VERSION, "comparisons": [one.to_json() for one in comparisons]})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["first", "second", "region", "metric", *_COLUMNS, "p_adjusted", "better"])
    for pair in comparisons:
        for region, tests in pair.to_json()["tests"].items():
            for metric, test in tests.items():
                values = [test[column] for column in (*_COLUMNS, "p_adjusted", "better")]
                writer.writerow(
                    [pair.first, pair.second, region, metric, *("" if value is None else value for value in values)]
                )
    write_text(path.with_suffix(".csv"), text.getvalue())

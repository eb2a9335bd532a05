"""Scores and comparisons as aligned text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bts_auto.evaluate.compare import Comparison
from bts_auto.evaluate.scores import Scores

_SUMMARY = ("region", "metric", "cases", "mean", "95 % interval", "median", "quartiles")
_COMPARISON = ("region", "metric", "cases", "difference", "95 % interval", "effect", "p", "better")


def aligned(rows: Sequence[Sequence[str]], *, left: int = 1) -> tuple[str, ...]:
    """Rows of equal length as lines; the first `left` columns are flush left, the others flush right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return tuple(
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def summary_table(scores: Scores) -> tuple[str, ...]:
    """Per region and metric: mean with its bootstrap interval, median and quartiles."""
    rows = [_SUMMARY]
    for region, per in scores.summary().items():
        for metric, one in per.items():
            interval, quartiles = _range(one.low, one.high), _range(one.q1, one.q3)
            rows.append((region, metric, str(one.n), _short(one.mean), interval, _short(one.median), quartiles))
    return aligned(rows, left=2)


def comparison_table(pair: Comparison) -> tuple[str, ...]:
    """Per region and metric: mean difference with its bootstrap interval, effect, p-value, and which set is better."""
    rows = [_COMPARISON]
    for region, per in pair.tests.items():
        for metric, test in per.items():
            interval, p_value = _range(test.low, test.high), _short(pair.adjusted[region][metric])
            difference, effect = _short(test.difference), _short(test.effect)
            rows.append(
                (region, metric, str(test.n), difference, interval, effect, p_value, pair.better(region, metric))
            )
    return aligned(rows, left=2)


def _range(low: float, high: float) -> str:
    return "-" if math.isnan(low) else f"{_short(low)} to {_short(high)}"


def _short(value: float) -> str:
    """Four decimals for what lies within 10, fewer beyond; a dash for what is not defined."""
    if math.isnan(value):
        return "-"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"

"""Scores of many cases: a table that can be summed up, written and read again."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bts_auto.errors import CaseFailure, DataError
from bts_auto.evaluate.case import CaseScores
from bts_auto.evaluate.empty import EmptyRule
from bts_auto.evaluate.metric import resolve
from bts_auto.evaluate.statistics import Summary, summarise
from bts_auto.files import read_json, write_json, write_text

SCORES_VERSION = 1


@dataclass(frozen=True)
class Scores:
    """Scores per case and region.

    Attributes
    ----------
    cases : dict
        ``cases[case][region][metric]``; a score may be NaN.
    metrics, regions : tuple of str
        What was scored, in the order of columns and rows.
    empty : EmptyRule
        What undefined scores were set to.
    failures : list of CaseFailure
        Cases that could not be scored, each with its reason.
    """

    cases: Mapping[str, CaseScores]
    metrics: tuple[str, ...]
    regions: tuple[str, ...]
    empty: EmptyRule = field(default_factory=EmptyRule)
    failures: list[CaseFailure] = field(default_factory=list)

    @classmethod
    def of(
        cls, cases: Mapping[str, CaseScores], *, empty: EmptyRule | None = None, failures: Iterable[CaseFailure] = ()
    ) -> Scores:
        """Collect what :func:`bts_auto.evaluate.case.score_case` returned for each case."""
        first: CaseScores = next(iter(cases.values()), {})
        metrics = tuple(next(iter(first.values()), {}))
        return cls(dict(cases), metrics, tuple(first), empty or EmptyRule(), list(failures))

    def values(self, region: str, metric: str) -> np.ndarray:
        """One score of every case, shape (cases,), in the order of `cases`."""
        return np.array([scores[region][metric] for scores in self.cases.values()], np.float64)

    def summary(self) -> dict[str, dict[str, Summary]]:
        """``summary[region][metric]`` over cases."""
        return {region: {one: summarise(self.values(region, one)) for one in self.metrics} for region in self.regions}

    def mean(self, metric: str = "dice", regions: Iterable[str] | None = None) -> float:
        """Mean over cases of a metric, then over `regions` (default all); NaN when it is defined nowhere."""
        chosen = self.regions if regions is None else tuple(regions)
        means = [float(np.nanmean(v)) for v in (self.values(r, metric) for r in chosen) if not np.isnan(v).all()]
        return float(np.mean(means)) if means else math.nan

    def definitions(self) -> dict[str, dict[str, str]]:
        """For each metric its definition, unit and which way is better."""
        named = resolve(self.metrics)
        return {m.name: {"about": m.metric.about, "unit": m.metric.unit, "better": m.metric.better} for m in named}

    def to_json(self) -> dict:
        """Everything as plain JSON values; NaN becomes None."""
        return {
            "version": SCORES_VERSION,
            "metrics": self.definitions(),
            "regions": list(self.regions),
            "empty": self.empty.model_dump(mode="json"),
            "summary": {r: {m: s.to_json() for m, s in per.items()} for r, per in self.summary().items()},
            "cases": {case: {r: _without_nan(per) for r, per in s.items()} for case, s in self.cases.items()},
            "failures": [{"case": failure.case, "reason": failure.reason} for failure in self.failures],
        }

    def to_csv(self) -> str:
        """One row per case and region, one column per metric; NaN is an empty field."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["case", "region", *self.metrics])
        for case, scores in self.cases.items():
            for region, per in scores.items():
                writer.writerow([case, region, *("" if math.isnan(per[m]) else repr(per[m]) for m in self.metrics)])
        return text.getvalue()

    def save(self, path: Path | str) -> None:
        """Write `path` (JSON), and the same rows as CSV beside it."""
        path = Path(path)
        write_json(path, self.to_json())
        write_text(path.with_suffix(".csv"), self.to_csv())

    @classmethod
    def load(cls, path: Path | str) -> Scores:
        """Read what :meth:`save` wrote.

        Raises
        ------
        DataError
            When the file is not one of this version.
        """
        content = read_json(path)
        if not isinstance(content, dict) or content.get("version") != SCORES_VERSION:
            raise DataError(f"is not a score file of version {SCORES_VERSION}", where=path, mend="evaluate again")
        cases = {
            case: {region: _with_nan(per) for region, per in scores.items()}
            for case, scores in content["cases"].items()
        }
        failures = [CaseFailure(**one) for one in content["failures"]]
        empty = EmptyRule.model_validate(content["empty"])
        return cls(cases, tuple(content["metrics"]), tuple(content["regions"]), empty, failures)


def _without_nan(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _with_nan(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in values.items()}

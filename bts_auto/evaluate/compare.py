"""Comparing two sets of scores of the same cases."""

from __future__ import annotations

from bts_auto.errors import DataError
from bts_auto.evaluate.scores import Scores
from bts_auto.evaluate.statistics import PairedTest, compare_paired


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
    common = [case for case in first.cases if case in second.cases]
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

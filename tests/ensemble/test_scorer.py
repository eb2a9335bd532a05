"""Scores of candidates, several cases at a time."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from bts_auto.ensemble.discover import discover
from bts_auto.ensemble.scorer import Candidate, Scorer
from bts_auto.plan.schema import Component
from tests.ensemble.make_results import Results, predictions

CANDIDATES = (Candidate((0,)), Candidate((0, 1)), Candidate((0, 1), "geometric_mean"), Candidate((0, 1), "staple"))
CHAINS = ((), (Component(name="keep_largest"),), (Component(name="fill_holes"),))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    made = Results.make(tmp_path_factory.mktemp("results"), 6)
    for name, by in (("a__2d", 1), ("b__2d", 2)):
        shifted = predictions(made, lambda mask, number, by=by: np.roll(mask, by + number % 3, axis=0))
        made.add(name, shifted, certainty=0.5 + 0.1 * by)
    return made


def _scorer(results: Results, workers: int | None) -> Scorer:
    trained, _ = discover(results.folder, ".nii.gz")
    references = {case: files.mask for case, files in results.raw.training_cases().items()}
    return Scorer(trained, references, results.raw.labels, ("dice",), workers=workers)


@pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda one: f"{one.combiner} of {len(one.members)}")
def test_scores_do_not_depend_on_the_number_of_workers(results: Results, candidate: Candidate) -> None:
    one, four = _scorer(results, 1), _scorer(results, 4)
    cases = one.cases[::-1]
    expected = one.many(candidate, CHAINS, cases)
    assert len({*expected[0].mean(axis=(1, 2))}) > 1
    np.testing.assert_array_equal(four.many(candidate, CHAINS, cases), expected)


def test_cases_are_scored_side_by_side(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = _scorer(results, 2)
    both, score = threading.Barrier(2, timeout=60), scorer._case
    monkeypatch.setattr(scorer, "_case", lambda *how: (both.wait(), score(*how))[1])
    assert scorer.scores(CANDIDATES[0], (), scorer.cases).shape == (6, 3, 1)


def test_what_is_known_is_not_worked_out_again(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = _scorer(results, 2)
    scorer.many(CANDIDATES[0], CHAINS[:2], scorer.cases[1:])
    asked, find = [], scorer._case
    monkeypatch.setattr(scorer, "_case", lambda *how: (asked.append(how[1]), find(*how))[1])
    scorer.many(CANDIDATES[0], CHAINS[:2], scorer.cases)
    assert asked == ["case_00"]


def test_no_more_cases_at_a_time_than_fit_the_memory(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bts_auto.machine.cores", lambda: 16)
    found = []
    for free in (1 << 40, 3 * 80 * 14 * 15 * 16, 1):
        monkeypatch.setattr("bts_auto.machine.free_memory", lambda free=free: free)
        found.append(_scorer(results, None)._workers)
    assert found == [8, 3, 1]

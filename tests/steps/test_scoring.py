"""What choosing says in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bts_auto import steps
from bts_auto.ensemble import choose
from bts_auto.ensemble.best import Best, Member, ScoredCandidate, TriedRule
from bts_auto.ensemble.calibration import Calibrated, Calibration
from bts_auto.plan.schema import Component
from tests.ensemble.make_results import Results

FILL = Component(name="fill_holes")
SMALL = Component(name="minimum_size", options={"voxels": 50})
SMOOTH = Component(name="smoothing")


def _tried(rule: Component, difference: float, low: float, accepted: bool = False) -> TriedRule:
    return TriedRule(rule=rule, difference=difference, low=low, high=2 * difference - low, accepted=accepted)


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What is said of a choice with these fields."""
    Results.make(tmp_path, 1)

    def said(**fields: Any) -> str:
        members = fields.pop("members", (Member(recipe="default", configuration="2d", folds=(0,)),))
        best = Best(dataset_name="Dataset007_Boxes", members=members, **fields)
        monkeypatch.setattr(choose, "choose", lambda *_, **__: choose.Choice(best, tmp_path / "best.json"))
        return "\n".join(steps.choose(workspace=tmp_path).lines)

    return said


def test_rows_of_the_same_members_differ_in_their_weights(lines) -> None:
    rows = [
        ScoredCandidate(members=("a", "b"), combiner="weighted", weights=weights, mean_dice=0.5)
        for weights in ((0.75, 0.25), (2 / 3, 1 / 3))
    ]
    said = lines(candidates=rows)
    assert "a + b by weighted (0.75, 0.25)\n" in said
    assert "a + b by weighted (0.67, 0.33)\n" in said


def test_the_chosen_weights_are_said(lines) -> None:
    members = [Member(recipe="default", configuration=name, folds=(0,)) for name in ("2d", "3d_fullres")]
    said = lines(members=members, combiner=Component(name="weighted"), weights=(0.75, 0.25))
    assert "chosen: default__2d + default__3d_fullres by weighted (0.75, 0.25)" in said


def test_accepted_rules_stand_in_the_order_in_which_they_are_applied(lines) -> None:
    tried = [_tried(FILL, 0.1, 0.05, True), _tried(SMALL, 0.2, 0.1, True)]
    said = lines(tried_rules=tried, postprocessing=[SMALL, FILL])
    assert said.index("accepted: minimum_size voxels 50: +0.2000 (+0.1000 to +0.3000)") < said.index("accepted: fill")


@pytest.mark.parametrize(
    ("best", "reason"),
    [
        (_tried(SMALL, 0.02, -0.01), "+0.0190); another promised as much or more, and not for sure"),
        (_tried(SMALL, 0.02, 0.01), "+0.0190); not after 1 rule, where the search ends"),
    ],
)
def test_why_a_rule_above_0_is_turned_down(lines, best: TriedRule, reason: str) -> None:
    tried = [_tried(SMOOTH, 0.1, 0.05, True), _tried(FILL, 0.01, 0.001), best]
    assert f"turned down: fill_holes: +0.0100 (+0.0010 to {reason}" in lines(tried_rules=tried)


def test_a_rule_whose_interval_says_why_is_given_no_other_reason(lines) -> None:
    said = lines(tried_rules=[_tried(FILL, 0.01, -0.01)])
    assert "turned down: fill_holes: +0.0100 (-0.0100 to +0.0300)\n" in said


@pytest.mark.parametrize(("likelihood", "words"), [(0.4, "0.2775 -> 0.2671"), (0.6, "calibration error 0.2775\n")])
def test_an_error_after_is_that_of_a_temperature_that_is_used(
    lines, monkeypatch, likelihood: float, words: str
) -> None:
    monkeypatch.setattr("bts_auto.report.reliability.write_reliability", lambda *_: None)
    one = Calibrated(
        temperature=1.5,
        fitted=1.5,
        apart=(1, 2),
        likelihood_before=0.5,
        likelihood_after=likelihood,
        error_before=0.2775,
        error_after=0.2671,
    )
    assert words in lines(calibration=Calibration(regions={"ET": one}))


def test_mean_ranks_are_shown_where_they_were_compared(lines) -> None:
    row = ScoredCandidate(members=("a",), combiner="mean", mean_dice=0.5, value=1.25)
    assert "0.5000  1.25  a\n" in lines(candidates=[row], rule="brats_ranking")
    assert "0.5000  a\n" in lines(candidates=[row])

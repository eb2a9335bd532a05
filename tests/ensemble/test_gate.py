"""Bounds on volumes under which a region is given up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bts_auto.data.readers import write_mask
from bts_auto.ensemble.choose import choose
from bts_auto.ensemble.gate import fit_gate
from tests.ensemble.make_results import GEOMETRY, Results, predictions, truth

SMALL = np.array([0.1, 0.2, 3.0, 0.15, 5.0])
OTHER = np.array([9.0, 8.0, 9.0, 0.5, 0.1])


def test_bounds_lie_halfway_between_volumes() -> None:
    found = fit_gate(SMALL, OTHER, np.array([0.3, 0.2, -0.5, -0.4, -0.5]))
    assert found == pytest.approx(((0.2 + 3.0) / 2, (0.5 + 8.0) / 2))


def test_where_nothing_is_gained_there_is_no_gate() -> None:
    assert fit_gate(SMALL, OTHER, -np.ones(5)) is None
    assert fit_gate(SMALL, OTHER, np.zeros(5)) is None


def test_it_is_the_best_of_all_bounds() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        small, other, gain = rng.random(9), rng.random(9), rng.normal(size=9)
        found = fit_gate(small, other, gain)
        reached = 0.0 if found is None else gain[(small <= found[0]) & (other > found[1])].sum()
        tried = [gain[(small <= a) & (other > b)].sum() for a in small for b in (0.0, *other)]
        assert reached == pytest.approx(max(0.0, *tried))


def test_invented_enhancing_tumour_is_given_up_and_the_gate_is_tried(tmp_path: Path) -> None:
    results = Results.make(tmp_path, 10)
    for number, case in enumerate(results.cases):
        without = np.where(truth(number) == 3, 1, truth(number)).astype(np.uint8)
        write_mask(results.raw.folder / "labelsTr" / f"{case}.nii.gz", without, GEOMETRY)
    results.add("a__2d", predictions(results, lambda mask, number: mask), cached=False)
    best = choose(results.folder, results.raw).best
    assert best.plain_score == 1
    assert "volume_gate" in {one.rule.name for one in best.tried_rules}

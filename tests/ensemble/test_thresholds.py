"""Thresholds fitted on cross-validated probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bts_auto.combine.cache import CACHE_ENDING, write_cache
from bts_auto.data.labels import Labels
from bts_auto.ensemble.choose import choose
from bts_auto.ensemble.thresholds import DiceTable, best_thresholds
from bts_auto.plan.schema import Component
from bts_auto.postprocess.context import Context, apply_rules, arrange
from tests.ensemble.make_results import SHAPE, Results, predictions, truth

PLAIN = Labels.from_dataset({"labels": {"background": 0, "necrosis": 1, "edema": 2, "enhancing": 3, "ignore": 4}})
REGIONS = PLAIN.as_regions()
SCORED = PLAIN.tumour_regions()


def _dice(mask: np.ndarray, reference: np.ndarray) -> float:
    counted = reference != 4
    values = []
    for members in SCORED.values():
        predicted, true = np.isin(mask, members) & counted, np.isin(reference, members)
        size = predicted.sum() + true.sum()
        values.append(2 * (predicted & true).sum() / size if size else 1.0)
    return float(np.mean(values))


@pytest.mark.parametrize("at", [(9, 9, 9), (0, 5, 18), (18, 0, 3), (4, 12, 7)])
def test_the_table_is_what_painting_gives(at: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    probabilities = np.round(rng.random((3, 6, 7, 8)) * 255).astype(np.float32) / 255
    probabilities[:, 0] = np.float32(0.5)
    reference = rng.integers(0, 5, (6, 7, 8))
    values = {name: (i + 1) / 20 for name, i in zip(REGIONS.outputs, at, strict=True)}
    rule = Component(name="thresholds", options={"values": values})
    context = Context(REGIONS, (1.0, 1.0, 1.0), probabilities=probabilities)
    mask = apply_rules(np.zeros((6, 7, 8), np.uint8), [rule], context)
    table = DiceTable(REGIONS, SCORED).of(probabilities, reference)
    assert table[at] == pytest.approx(_dice(mask, reference), abs=1e-12)


def test_empty_in_both_is_perfect() -> None:
    table = DiceTable(REGIONS, SCORED).of(np.zeros((3, 2, 2, 2), np.float32), np.zeros((2, 2, 2), int))
    assert (table == 1).all()


def test_of_equals_the_middle_counts_and_of_folds_the_median() -> None:
    flat = np.zeros((19, 19, 19))
    low, high = flat.copy(), flat.copy()
    low[1], high[16, :, 3] = 1, 1
    tables = [(0, flat), (1, low), (2, high), (2, flat)]
    assert best_thresholds(tables, REGIONS) == {"WT": 0.5, "TC": 0.5, "ET": 0.5}
    assert best_thresholds([(2, high), (2, flat)], REGIONS) == {"WT": 0.85, "TC": 0.5, "ET": 0.2}


def test_a_rule_that_starts_anew_comes_first_and_replaces_an_earlier_one() -> None:
    rules = [
        Component(name="thresholds", options={"values": {"ET": 0.5}}),
        Component(name="smoothing"),
        Component(name="thresholds", options={"values": {"ET": 0.3}}),
    ]
    assert arrange(rules) == (rules[2], rules[1])


def test_a_network_that_is_too_sure_of_itself_gets_higher_thresholds(tmp_path: Path) -> None:
    results = Results.make(tmp_path, 10)
    regions = results.raw.labels.as_regions()

    def swollen(mask: np.ndarray, number: int) -> np.ndarray:
        out = mask.copy()
        out[(mask == 0) & (np.roll(mask, 2, axis=2) > 0)] = 2
        return out

    results.add("a__2d", predictions(results, swollen))
    for number, case in enumerate(results.cases):
        inside = [np.isin(truth(number), members) for members in regions.members()]
        wide = np.isin(swollen(truth(number), number), regions.members()[0])
        channels = [np.where(inside[0], 0.9, np.where(wide, 0.6, 0.0)), *[one * 0.9 for one in inside[1:]]]
        path = results.folder / "a__2d" / f"fold_{number % 2}" / "validation" / f"{case}{CACHE_ENDING}"
        write_cache(path, channels, outputs=regions.outputs, box=tuple(slice(0, n) for n in SHAPE), shape=SHAPE)
    best = choose(results.folder, results.raw).best
    assert [rule.name for rule in best.postprocessing][:1] == ["thresholds"]
    assert best.postprocessing[0].options["values"] == {"WT": 0.6, "TC": 0.5, "ET": 0.5}
    assert best.plain_score == best.nested_score == 1

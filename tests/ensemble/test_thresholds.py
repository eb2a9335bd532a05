"""Thresholds fitted on cross-validated probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bts_auto.combine.cache import CACHE_ENDING, write_cache
from bts_auto.data.labels import Labels
from bts_auto.ensemble import threshold_draws
from bts_auto.ensemble.choose import choose
from bts_auto.ensemble.discover import discover
from bts_auto.ensemble.scorer import Candidate, Scorer
from bts_auto.ensemble.threshold_draws import DrawSearch
from bts_auto.ensemble.thresholds import GridSearch
from bts_auto.errors import PlanError
from bts_auto.plan.schema import Component
from bts_auto.postprocess.context import Context, apply_rules, arrange
from bts_auto.postprocess.options import ThresholdDrawsOptions
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
    table = GridSearch(REGIONS, SCORED).of(probabilities, reference)
    assert table[at] == pytest.approx(_dice(mask, reference), abs=1e-7)


def test_empty_in_both_is_perfect() -> None:
    table = GridSearch(REGIONS, SCORED).of(np.zeros((3, 2, 2, 2), np.float32), np.zeros((2, 2, 2), int))
    assert (table == 1).all()


def test_of_equals_the_middle_counts_and_of_folds_the_median() -> None:
    flat = np.zeros((19, 19, 19))
    low, high = flat.copy(), flat.copy()
    low[1], high[16, :, 3] = 1, 1
    grid = GridSearch(REGIONS, SCORED)
    assert grid.best({0: [flat], 1: [low], 2: [high, flat]}) == {"WT": 0.5, "TC": 0.5, "ET": 0.5}
    assert grid.best({2: [high, flat]}) == {"WT": 0.85, "TC": 0.5, "ET": 0.2}


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


def _made(number: int, shape: tuple[int, ...] = (6, 7, 8)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(number)
    return np.round(rng.random((3, *shape)) * 255).astype(np.float32) / 255, rng.integers(0, 5, shape)


@pytest.mark.parametrize("limits", [(0.5, 0.5, 0.5), (0.25, 0.75, 0.125), (0.09375, 0.0625, 0.9375)])
def test_counted_voxels_are_what_painting_gives(limits: tuple[float, float, float]) -> None:
    probabilities, reference = _made(3)
    probabilities[:, 0] = np.float32(0.25)
    rule = Component(name="thresholds", options={"values": dict(zip(REGIONS.outputs, limits, strict=True))})
    context = Context(REGIONS, (1.0, 1.0, 1.0), probabilities=probabilities)
    mask = apply_rules(np.zeros((6, 7, 8), np.uint8), [rule], context)
    search = DrawSearch(REGIONS, SCORED, ThresholdDrawsOptions(sampler="random"))
    counted = search.of(probabilities, reference)
    assert search.dice(counted, np.array(limits)) == pytest.approx(_dice(mask, reference), abs=1e-12)


def test_plain_labels_are_counted_as_their_rule_decides() -> None:
    rng = np.random.default_rng(0)
    raw = rng.random((4, 6, 7, 8)).astype(np.float32)
    probabilities, reference = raw / raw.sum(axis=0), rng.integers(0, 4, (6, 7, 8))
    limits = {"necrosis": 0.3, "edema": 0.6, "enhancing": 0.45}
    rule = Component(name="thresholds", options={"values": limits})
    mask = apply_rules(np.zeros((6, 7, 8), np.uint8), [rule], Context(PLAIN, (1.0,) * 3, probabilities=probabilities))
    search = DrawSearch(PLAIN, SCORED, ThresholdDrawsOptions(sampler="random"))
    found = search.dice(search.of(probabilities, reference), np.array(list(limits.values())))
    assert found == pytest.approx(_dice(mask, reference), abs=0.02)  # probabilities are rounded to 8 bits


def _swollen_cases(search: DrawSearch) -> dict[int, list]:
    """Two folds in which WT is right above 0.625 only, by probabilities of 0.62 around it."""
    cases: dict[int, list] = {}
    for number in range(4):
        reference = truth(number)
        channels = np.stack([np.isin(reference, one) * np.float32(0.9) for one in REGIONS.members()])
        channels[0][(reference == 0) & (np.roll(reference, 2, axis=2) > 0)] = 0.62
        cases.setdefault(number % 2, []).append(search.of(channels, reference))
    return cases


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_draws_find_what_is_better_the_same_every_time(sampler: str) -> None:
    if sampler == "tpe":
        pytest.importorskip("optuna")
    search = DrawSearch(REGIONS, SCORED, ThresholdDrawsOptions(draws=40, sampler=sampler))
    cases = _swollen_cases(search)
    found = search.best(cases)
    assert found["WT"] >= 0.62
    assert search.dice(cases[0][0], np.array(list(found.values()))) == 1
    assert search.best(cases) == found


def test_a_fold_with_the_same_cases_is_not_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    search = DrawSearch(REGIONS, SCORED, ThresholdDrawsOptions(draws=5, sampler="random"))
    cases = _swollen_cases(search)
    drawn = []
    draw = threshold_draws._at_random
    monkeypatch.setattr(threshold_draws, "_at_random", lambda *how: (drawn.append(how[-1]), draw(*how))[1])
    search.best(cases)
    fewer = search.best({0: cases[0], 1: cases[1][:1]})
    assert drawn == [0, 1, 1]
    fresh = DrawSearch(REGIONS, SCORED, ThresholdDrawsOptions(draws=5, sampler="random"))
    assert fewer == fresh.best({0: cases[0], 1: cases[1][:1]})


def test_without_optuna_draws_are_random_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    search = DrawSearch(REGIONS, SCORED, ThresholdDrawsOptions(draws=5))
    assert search.component.options == {"draws": 5, "sampler": "random"}
    with pytest.raises(PlanError, match=r"bts_auto\[hpo\]"):
        DrawSearch(REGIONS, SCORED, ThresholdDrawsOptions(sampler="tpe"))


def test_a_grid_is_refused_where_it_cannot_be_exact() -> None:
    with pytest.raises(PlanError, match="draws"):
        GridSearch(PLAIN, SCORED)


def test_a_rule_that_names_its_search_is_fitted_by_it(tmp_path: Path) -> None:
    results = Results.make(tmp_path, 4)
    results.add("a__2d", predictions(results, lambda mask, number: mask), certainty=0.7)
    raw = results.raw
    trained, _ = discover(results.folder, raw.file_ending, None)
    references = {case: files.mask for case, files in raw.training_cases().items()}
    scorer = Scorer(trained, references, raw.labels, ("dice",))
    search = {"name": "draws", "options": {"draws": 3, "sampler": "random"}}
    rule = Component(name="thresholds", options={"search": search})
    fitted = scorer.fitted_thresholds(Candidate((0,), rules=(rule,)), scorer.cases)
    assert fitted is not None
    assert fitted.options["search"] == search
    assert set(fitted.options["values"]) == {"necrosis", "edema", "enhancing"}
    assert scorer.fitted_thresholds(Candidate((0,)), scorer.cases) is None


def test_a_search_goes_on_from_what_it_has_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = Results.make(tmp_path, 4)
    results.add("a__2d", predictions(results, lambda mask, number: mask), certainty=0.7)
    trained, _ = discover(results.folder, ".nii.gz", None)
    references = {case: files.mask for case, files in results.raw.training_cases().items()}
    scorer = Scorer(trained, references, results.raw.labels, ("dice",))
    search = {"name": "draws", "options": {"draws": 3, "sampler": "random"}}
    candidate = Candidate((0,), rules=(Component(name="thresholds", options={"search": search}),))
    drawn = []
    draw = threshold_draws._at_random
    monkeypatch.setattr(threshold_draws, "_at_random", lambda *how: (drawn.append(how[-1]), draw(*how))[1])
    scorer.fitted_thresholds(candidate, scorer.cases)
    scorer.fitted_thresholds(candidate, scorer.cases[1:])
    assert drawn == [0, 1, 0]

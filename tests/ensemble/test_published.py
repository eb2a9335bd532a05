"""Ensemble recipes among the candidates, members trained on labels and on regions, rules that need probabilities."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bts_auto.combine.cache import CACHE_ENDING, CachedProbabilities, write_cache
from bts_auto.combine.saved import CacheSource
from bts_auto.data.labels import Labels
from bts_auto.data.readers import write_map
from bts_auto.ensemble.apply import combine_members
from bts_auto.ensemble.choose import choose
from bts_auto.ensemble.published import find_ensembles, remember_ensemble
from bts_auto.errors import DataError
from bts_auto.plan.recipes import Recipe
from tests.ensemble.make_results import GEOMETRY, SHAPE, Results, predictions, truth


def _recipe(**fields: Any) -> Recipe:
    return Recipe.model_validate({"name": "both", "about": "A test.", "members": {"a": {}, "b": {}}} | fields)


def _shifted(by: int):
    return lambda mask, number: np.roll(mask, by, axis=0)


def _good_in(fold: int):
    """Right on the cases of one of two folds, far off on the other's."""
    return lambda mask, number: mask if number % 2 == fold else np.roll(mask, 4, axis=0)


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results.make(tmp_path, 6)


def test_a_recipe_is_found_again(results: Results) -> None:
    recipe = _recipe(combiner={"name": "staple"}, postprocessing=[{"name": "nesting"}])
    remember_ensemble(recipe, results.folder)
    assert find_ensembles(results.folder) == ([recipe], [])


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "both is left out: .*not valid JSON"), ('{"name": "both"}', "both is left out: .*'about'")],
    ids=["broken JSON", "no recipe"],
)
def test_a_damaged_recipe_is_left_out_with_a_word(results: Results, text: str, words: str) -> None:
    results.add("default__2d", predictions(results, _shifted(1)))
    (results.folder / "both.recipe.json").write_text(text)
    notes = choose(results.folder, results.raw).best.notes
    assert any(re.search(words, note) for note in notes)


def test_an_ensemble_of_an_unknown_combiner_is_left_out_with_a_word(results: Results) -> None:
    for name in ("a", "b"):
        results.add(f"both.{name}__2d", predictions(results, _shifted(1)))
    remember_ensemble(_recipe(combiner={"name": "stapl"}), results.folder)
    notes = choose(results.folder, results.raw).best.notes
    assert any("both is left out" in note and "stapl" in note for note in notes)


def test_of_each_fold_the_best_member_is_kept(results: Results) -> None:
    results.add("both.a__2d", predictions(results, _good_in(0)))
    results.add("both.b__2d", predictions(results, _good_in(1)))
    remember_ensemble(_recipe(folds="best"), results.folder)
    best = choose(results.folder, results.raw).best
    assert best.recipe == "both"
    assert [(member.name, member.folds) for member in best.members] == [("both.a__2d", (0,)), ("both.b__2d", (1,))]
    assert (best.combiner.name, best.weights) == ("weighted", (0.5, 0.5))
    assert best.plain_score == best.nested_score == 1


def test_an_ensemble_can_be_chosen_by_name_though_another_is_better(results: Results) -> None:
    results.add("default__2d", predictions(results, _shifted(0)))
    for name in ("a", "b"):
        results.add(f"both.{name}__2d", predictions(results, _shifted(1)))
    remember_ensemble(_recipe(combiner={"name": "staple"}), results.folder)
    assert [one.recipe for one in choose(results.folder, results.raw).best.members] == ["default"]
    best = choose(results.folder, results.raw, recipe="both").best
    assert (best.recipe, best.combiner.name) == ("both", "staple")
    assert [one.recipe for one in best.members] == ["both.a", "both.b"]
    assert best.nested_score is not None
    assert best.nested_score < 1
    assert [one.recipe for one in choose(results.folder, results.raw, recipe="both.b").best.members] == ["both.b"]


@pytest.mark.parametrize(
    ("name", "words"), [("bth", "no 'bth' is trained .*there are both"), ("both", "not all of its")]
)
def test_a_recipe_that_cannot_be_chosen_is_one_clear_line(results: Results, name: str, words: str) -> None:
    results.add("both.a__2d", predictions(results, _shifted(1)))
    remember_ensemble(_recipe(), results.folder)
    with pytest.raises(DataError, match=words):
        choose(results.folder, results.raw, recipe=name)


def test_a_rule_of_the_brain_is_scored_with_the_images(results: Results) -> None:
    """Speckles outside the brain cost nothing any more; the images are zero in the first plane."""

    def with_speck(mask: np.ndarray, number: int) -> np.ndarray:
        out = mask.copy()
        out[0] = 2
        return out

    image = np.ones(SHAPE, np.float32)
    image[0] = 0
    for name in ("a", "b"):
        results.add(f"both.{name}__2d", predictions(results, with_speck))
    for case in results.cases:
        write_map(results.root / f"raw/Dataset007_Boxes/imagesTr/{case}_0000.nii.gz", image, GEOMETRY)
    remember_ensemble(_recipe(postprocessing=[{"name": "outside_brain"}]), results.folder)
    best = choose(results.folder, results.raw).best
    assert best.recipe == "both"
    assert best.candidates[0].mean_dice > max(one.mean_dice for one in best.candidates[1:])


def test_rules_of_the_recipe_belong_to_its_candidate(results: Results) -> None:
    def with_speck(mask: np.ndarray, number: int) -> np.ndarray:
        out = mask.copy()
        out[13, 13:15, 12:14] = 2
        return out

    for name in ("a", "b"):
        results.add(f"both.{name}__2d", predictions(results, with_speck))
    rule = {"name": "keep_largest", "options": {}}
    remember_ensemble(_recipe(combiner={"name": "staple"}, postprocessing=[rule]), results.folder)
    best = choose(results.folder, results.raw).best
    assert (best.recipe, best.combiner.name, best.plain_score) == ("both", "staple", 1)
    assert [one.name for one in best.postprocessing] == ["keep_largest"]
    mask = with_speck(truth(0), 0)
    found = combine_members(best, results.raw.labels, (1.0, 1.0, 1.0), masks=[mask, mask])
    np.testing.assert_array_equal(found, truth(0))


def test_an_ensemble_that_cannot_be_used_is_left_out_with_a_word(results: Results) -> None:
    results.add("both.a__2d", predictions(results, _shifted(1)))
    remember_ensemble(_recipe(), results.folder)
    assert any("both is left out" in note for note in choose(results.folder, results.raw).best.notes)
    results.add("both.b__2d", predictions(results, _shifted(1)))
    wrong = {"name": "small_region", "options": {"region": "liver", "voxels": 9}}
    remember_ensemble(_recipe(postprocessing=[wrong]), results.folder)
    assert any("liver" in note for note in choose(results.folder, results.raw).best.notes)


def _write_regions(results: Results, name: str, labels: Labels) -> None:
    """Replace the cached probabilities of a member by those of a network that was trained on regions."""
    for number, case in enumerate(results.cases):
        mask = truth(number)
        channels = [np.isin(mask, members).astype(np.float32) for members in labels.members()]
        path = results.folder / name / f"fold_{number % 2}" / "validation" / f"{case}{CACHE_ENDING}"
        write_cache(path, channels, outputs=labels.outputs, box=tuple(slice(0, n) for n in SHAPE), shape=SHAPE)


def test_members_trained_on_labels_and_on_regions_are_combined(results: Results) -> None:
    regions = results.raw.labels.as_regions()
    results.add("both.a__2d", predictions(results, _shifted(1)))
    results.add("both.b__2d", predictions(results, _shifted(2)))
    _write_regions(results, "both.b__2d", regions)
    rules = [
        {"name": "thresholds", "options": {"values": {"WT": 0.5}}},
        {"name": "volume_gate", "options": {"at_most_ml": 0.001, "other": "necrosis", "above_ml": 1e-6}},
    ]
    channels = {"name": "region_channels", "options": {"members": {"WT": 1, "TC": 1, "ET": 1}}}
    remember_ensemble(_recipe(combiner=channels, postprocessing=rules), results.folder)
    best = choose(results.folder, results.raw).best
    assert (best.recipe, best.combiner.name, best.plain_score) == ("both", "region_channels", 1)

    sources = []
    for member in best.members:
        path = results.folder / member.name / "fold_0" / "validation" / f"case_00{CACHE_ENDING}"
        sources.append(CacheSource(CachedProbabilities(path), regions))
    masks = [np.roll(truth(0), 1, axis=0), truth(0)]
    found = combine_members(best, regions, (1.0, 1.0, 1.0), masks=masks, sources=sources)
    np.testing.assert_array_equal(found, truth(0))


def test_labels_add_up_to_regions(results: Results) -> None:
    plain = results.raw.labels
    regions = plain.as_regions()
    assert Labels.common([plain, regions]).outputs == regions.outputs
    assert regions.channels_of(plain.outputs) == ((1, 2, 3), (1, 3), (3,))
    with pytest.raises(DataError, match="liver"):
        regions.channels_of(("background", "liver"))

"""Recipes, shipped and own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bts_auto.errors import PlanError
from bts_auto.plan.recipes import Recipe, apply_recipe, list_recipes, load_recipe
from bts_auto.plan.schema import Plan
from tests.plan.cases import plan


def _write(folder: Path, stem: str, /, **fields: object) -> Path:
    path = folder / f"{stem}.json"
    path.write_text(json.dumps({"about": "A test."} | fields))
    return path


@pytest.fixture(scope="module")
def large() -> Plan:
    return plan((500, 512, 512))


def test_default_changes_nothing_but_nothing_else(large: Plan):
    assert apply_recipe(large, "default") == large


@pytest.mark.parametrize("recipe", list_recipes(), ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("shape", [(140, 160, 145), (500, 512, 512), (1, 300, 300)])
def test_every_shipped_recipe_fits_every_plan(recipe: Recipe, shape: tuple[int, ...]):
    spacing = (999.0, 1.0, 1.0) if shape[0] == 1 else (1.0, 1.0, 1.0)
    made = apply_recipe(plan(shape, spacing), recipe.name)
    assert made.recipe == recipe.name
    assert recipe.about


@pytest.mark.parametrize("recipe", list_recipes(), ids=lambda recipe: recipe.name)
def test_every_shipped_recipe_names_its_source_and_reports_plausible_figures(recipe: Recipe):
    assert recipe.source
    for figures in recipe.reported.values():
        assert {"WT", "TC", "ET"} == set(figures["dice"])
        assert all(0 < value <= 1 for value in figures["dice"].values())
        assert all(0 < value < 374 for value in figures.get("hd95", {}).values())


def test_fields_are_laid_over_every_configuration(large: Plan, tmp_path: Path):
    made = apply_recipe(large, _write(tmp_path, "short", configuration={"training": {"epochs": 9}}))
    assert made.recipe == "short"
    assert {made.configuration(name).training.epochs for name in made.configurations} == {9}
    assert made.configuration("2d").training.iterations == 250


def test_a_new_configuration_may_inherit(large: Plan, tmp_path: Path):
    entry = {"inherits_from": "3d_fullres", "batch_size": 7}
    made = apply_recipe(large, _write(tmp_path, "more", configurations={"3d_large_batch": entry}))
    assert made.configuration("3d_large_batch").batch_size == 7


def test_what_is_said_of_an_unplanned_stage_is_left_out(tmp_path: Path):
    path = _write(tmp_path, "low", configurations={"3d_lowres": {"batch_size": 4}})
    assert "3d_lowres" not in apply_recipe(plan(), path).configurations


@pytest.fixture(scope="module")
def coarse() -> Plan:
    """A plan for a time budget, which has one configuration at a coarser spacing."""
    entry = plan().configurations["3d_fullres"]
    return plan().model_copy(update={"budget_seconds": 600.0, "configurations": {"3d_lowres": entry}})


def test_what_is_said_of_full_resolution_holds_at_the_spacing_of_a_budget(coarse: Plan):
    made = apply_recipe(coarse, "brats2020_winner").configuration("3d_lowres")
    assert made.batch_size == 5
    assert made.training.augmentation is not None


def test_a_budget_says_how_long_a_training_is(coarse: Plan, tmp_path: Path):
    training = {"epochs": 9, "schedule": {"name": "constant"}}
    made = apply_recipe(coarse, _write(tmp_path, "short", configuration={"training": training}))
    assert made.configuration("3d_lowres").training.epochs == 1000
    assert made.configuration("3d_lowres").training.schedule.name == "constant"


def test_a_budget_says_how_large_a_patch_is(coarse: Plan, tmp_path: Path):
    path = _write(tmp_path, "fixed", configurations={"3d_fullres": {"patch_size": [64, 64, 64]}})
    with pytest.raises(PlanError, match="names 'patch_size', which a time budget decides"):
        apply_recipe(coarse, path)


def test_recipes_extend_each_other(large: Plan, tmp_path: Path):
    _write(tmp_path, "below", configuration={"training": {"epochs": 9, "seed": 3}}, preset="resenc_m")
    recipe = load_recipe(_write(tmp_path, "above", extends="below.json", configuration={"training": {"epochs": 8}}))
    assert recipe.configuration == {"training": {"epochs": 8, "seed": 3}}
    assert recipe.preset == "resenc_m"
    assert apply_recipe(large, recipe).recipe == "above"


def test_members_share_what_the_ensemble_says(large: Plan, tmp_path: Path):
    members = {"short": {"configuration": {"training": {"epochs": 9}}}, "other": {"target": "regions"}}
    path = _write(tmp_path, "both", configuration={"training": {"seed": 3}}, members=members, combiner={"name": "vote"})
    made = apply_recipe(large, load_recipe(f"{path}:short"))
    assert made.recipe == "both.short"
    assert (made.configuration("2d").training.epochs, made.configuration("2d").training.seed) == (9, 3)
    assert apply_recipe(large, load_recipe(f"{path}:other")).target == "regions"
    assert apply_recipe(large, path).configuration("2d").training.epochs == 1000
    with pytest.raises(PlanError, match="did you mean 'short'"):
        load_recipe(f"{path}:shrt")


def test_an_ensemble_may_be_extended_through_several_recipes(tmp_path: Path):
    members = {"a": {"preset": "resenc_m"}, "b": {}}
    _write(tmp_path, "base", members=members, combiner={"name": "staple"}, folds="all")
    _write(tmp_path, "middle", extends="base.json", members={"a": {"configuration": {"batch_size": 3}}})
    top = load_recipe(_write(tmp_path, "top", extends="middle.json", members={"c": {}}, folds="best"))
    assert tuple(top.members) == ("a", "b", "c")
    assert (top.combiner.name, top.folds) == ("staple", "best")
    assert top.member("a").preset == "resenc_m"
    assert top.member("a").configuration == {"batch_size": 3}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"combiner": {"name": "vote"}}, "need 'members'"),
        ({"members": {"a": {}}}, "no ensemble"),
        ({"members": {"a__b": {}, "c": {}}}, "a__b"),
        ({"members": {"a": {}, "b": {}}, "combiner": {"name": "stapel"}}, "did you mean 'staple'"),
        ({"extends": "default", "combiner": {"name": "vote"}}, "need 'members'"),
        (
            {"members": {"a": {}, "b": {}}, "combiner": {"name": "weighted", "options": {"weights": [1, 1, 1]}}},
            "3 weights for 2 members",
        ),
        (
            {"members": {"a": {}, "b": {}}, "combiner": {"name": "region_channels", "options": {"members": {"WT": 2}}}},
            "'WT' comes from member 2",
        ),
        ({"members": {"a": {}, "b": {}}, "postprocessing": [{"name": "small_region"}]}, "voxels"),
    ],
)
def test_an_ensemble_that_does_not_fit_is_refused(tmp_path: Path, fields: dict, words: str):
    with pytest.raises(PlanError, match=words):
        load_recipe(_write(tmp_path, "bad", **fields))


def test_a_name_that_is_none_for_a_folder_is_refused(tmp_path: Path):
    with pytest.raises(PlanError, match=r"'my__method' is no name .*rename"):
        load_recipe(_write(tmp_path, "my__method"))


def test_a_circle_is_refused(tmp_path: Path):
    _write(tmp_path, "one", extends="two.json")
    with pytest.raises(PlanError, match="extends itself"):
        load_recipe(_write(tmp_path, "two", extends="one.json"))


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(PlanError, match="did you mean 'default'"):
        load_recipe("defualt")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"configuration": {"training": {"epoch": 3}}}, "recipe 'bad'.*did you mean 'epochs'"),
        ({"configurations": {"3d_other": {"batch_size": 3}}}, "3d_other"),
        ({"configuration": {"network": {"name": "mystery"}}}, "mystery"),
        ({"configurtion": {}}, "did you mean 'configuration'"),
        ({"name": "good"}, "calls itself 'good'"),
    ],
)
def test_what_does_not_fit_is_refused(large: Plan, tmp_path: Path, fields: dict, words: str):
    with pytest.raises(PlanError, match=words):
        apply_recipe(large, _write(tmp_path, "bad", **fields))

"""Sizes of networks, and every shipped recipe from its file to its networks."""

from __future__ import annotations

import pytest

from bts_auto.model.build import empty_network
from bts_auto.model.size import built_size, network_size
from bts_auto.plan.recipes import Recipe, apply_recipe, list_recipes, load_recipe
from bts_auto.plan.reference import reference_plan
from bts_auto.plan.schema import Plan

SINGLE = [
    one
    for recipe in map(load_recipe, (recipe.name for recipe in list_recipes()))
    for one in ([recipe.member(name) for name in recipe.members] or [recipe])
]


@pytest.fixture(scope="module")
def reference() -> Plan:
    return reference_plan()


@pytest.mark.parametrize("recipe", SINGLE, ids=lambda recipe: recipe.name)
def test_networks_of_every_shipped_recipe_can_be_built(recipe: Recipe) -> None:
    made = apply_recipe(reference_plan(recipe.preset or "plain"), recipe)
    made.check()
    for name in made.configurations:
        network = empty_network(made, name)
        assert next(network.parameters()).device.type == "meta"


@pytest.mark.parametrize("preset", ["plain", "resenc_m"])
def test_arithmetic_and_a_built_network_agree(preset) -> None:
    plan = reference_plan(preset)
    counted, built = network_size(plan, "3d_fullres"), built_size(plan, "3d_fullres")
    assert counted.parameters == built.parameters
    assert counted.gflop == pytest.approx(built.gflop, rel=1e-9)


def test_a_network_without_arithmetic_is_built(reference: Plan) -> None:
    made = apply_recipe(reference, "nnsegnet:unpooling")
    assert network_size(made, "3d_fullres").parameters == 27_663_648


def test_the_reference_is_planned_as_brats_is(reference: Plan) -> None:
    configuration = reference.configuration("3d_fullres")
    assert (configuration.patch_size, configuration.batch_size) == ((128, 128, 128), 2)
    assert configuration.features_per_stage == (32, 64, 128, 256, 320, 320)

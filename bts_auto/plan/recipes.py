"""Recipes: published methods as small JSON documents that are laid over an automatic plan."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from bts_auto.documents import Document, parse
from bts_auto.errors import PlanError
from bts_auto.files import read_json
from bts_auto.plan.merge import merge
from bts_auto.plan.presets import PresetName
from bts_auto.plan.schema import Plan

# What the planner may leave out, where the cases are slices or a patch shows enough of them.
_OPTIONAL = ("3d_fullres", "3d_lowres", "3d_cascade_fullres")


class Recipe(Document):
    """A method, as what it changes in an automatic plan.

    Attributes
    ----------
    name : str
        The file's stem.
    about : str
        One or two sentences for a person.
    source : str
        The publication.
    reported : mapping
        Figures that the publication gives, by dataset.
    extends : str, optional
        The recipe that this one is laid over.
    preset : str, optional
        The network that the planner sizes, where the method names one.
    configuration : mapping
        Fields laid over every configuration that does not inherit.
    configurations : mapping
        Fields laid over single configurations; a new name needs ``inherits_from`` or every field. What is said of one
        that the planner found no need for (3d_lowres, the cascade) is left out.
    """

    name: str
    about: str
    source: str = ""
    reported: dict[str, Any] = Field(default_factory=dict)
    extends: str | None = None
    preset: PresetName | None = None
    configuration: dict[str, Any] = Field(default_factory=dict)
    configurations: dict[str, dict[str, Any]] = Field(default_factory=dict)


def recipe_folder() -> Path:
    """Where the shipped recipes lie: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "plans"
    return installed if installed.is_dir() else package.parent / "plans"


def _read(path: Path) -> Recipe:
    values = read_json(path)
    if not isinstance(values, dict):
        raise PlanError("a recipe is a JSON object", where=path)
    if values.get("name", path.stem) != path.stem:
        raise PlanError(f"the recipe calls itself '{values['name']}'", where=path, mend="name it like its file")
    return parse(Recipe, values | {"name": path.stem}, where=path)


def list_recipes() -> list[Recipe]:
    """The shipped recipes, sorted by name, as they are written (without what they extend)."""
    return [_read(path) for path in sorted(recipe_folder().glob("*.json"))]


def _find(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if path.suffix == ".json":
        return path
    shipped = {one.stem: one for one in sorted(recipe_folder().glob("*.json"))}
    if str(name_or_path) not in shipped:
        near = difflib.get_close_matches(str(name_or_path), shipped, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(shipped) or 'none'}"
        raise PlanError(f"no recipe is called '{name_or_path}'", mend=hint)
    return shipped[str(name_or_path)]


def load_recipe(name_or_path: str | Path) -> Recipe:
    """A shipped recipe by name, or one from a ``.json`` file, with all that it extends merged in.

    Raises
    ------
    PlanError
        When there is no such recipe, it does not fit the schema, or recipes extend each other in a circle.
    """
    path = _find(name_or_path)
    recipe, seen = _read(path), [path.resolve()]
    base = recipe.extends
    while base is not None:
        # A file is first sought beside the recipe that names it.
        path = path.parent / base if base.endswith(".json") else _find(base)
        if path.resolve() in seen:
            raise PlanError(f"recipe '{recipe.name}' extends itself through '{path.stem}'")
        seen.append(path.resolve())
        below = _read(path)
        recipe = parse(Recipe, _over(below, recipe), where=path)
        base = below.extends
    return recipe


def _over(below: Recipe, above: Recipe) -> dict[str, Any]:
    return above.model_dump() | {
        "preset": above.preset or below.preset,
        "configuration": merge(below.configuration, above.configuration),
        "configurations": merge(below.configurations, above.configurations),
    }


def apply_recipe(plan: Plan, recipe: Recipe | str | Path) -> Plan:
    """A new plan: `plan` with the recipe laid over it, under the recipe's name.

    Raises
    ------
    PlanError
        When the recipe names fields, components or options that do not exist, or the result does not fit together.
    """
    chosen = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    values = plan.model_dump(mode="json") | {"recipe": chosen.name}
    values["configurations"] = _lay(values["configurations"], chosen)
    try:
        changed = parse(Plan, values)
        changed.check()
    except PlanError as error:
        what = error.what if error.where is None else f"{error.where}: {error.what}"
        raise PlanError(what, where=f"recipe '{chosen.name}'", mend=error.mend) from None
    return changed


def _lay(configurations: Mapping[str, dict[str, Any]], recipe: Recipe) -> dict[str, dict[str, Any]]:
    laid = {
        name: entry if entry.get("inherits_from") else merge(entry, recipe.configuration)
        for name, entry in configurations.items()
    }
    wanted = {
        name: entry
        for name, entry in recipe.configurations.items()
        if name in laid or name not in _OPTIONAL or "inherits_from" in entry
    }
    return merge(laid, wanted)

"""Recipes: published methods as small JSON documents that are laid over an automatic plan."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from bts_auto import registry
from bts_auto.documents import Document, parse
from bts_auto.errors import PlanError
from bts_auto.files import read_json
from bts_auto.plan.merge import merge
from bts_auto.plan.presets import PresetName
from bts_auto.plan.schema import Component, Plan

# What the planner may leave out, where the cases are slices or a patch shows enough of them.
_OPTIONAL = ("3d_fullres", "3d_lowres", "3d_cascade_fullres")
# How long a training is; where a plan was made for a time budget, the budget says so.
_LENGTH = ("epochs", "iterations", "validation_iterations")
# It says how large everything is, too.
_SIZES = (
    "spacing", "median_image_size_in_voxels", "patch_size", "n_stages", "features_per_stage", "kernel_sizes", "strides"
)  # fmt: skip
_OF_ENSEMBLES = ("combiner", "folds", "postprocessing")


# Parts of a folder's name, beside "__" and ".".
_WORD = "[a-zA-Z0-9]+([_-][a-zA-Z0-9]+)*"
MemberName = Annotated[str, StringConstraints(pattern=f"^{_WORD}$")]


class MemberRecipe(Document):
    """What one member of an ensemble changes on top of the fields that all members share; see :class:`Recipe`."""

    about: str = ""
    preset: PresetName | None = None
    target: Literal["labels", "regions"] | None = None
    configuration: dict[str, Any] = Field(default_factory=dict)
    configurations: dict[str, dict[str, Any]] = Field(default_factory=dict)


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
    target : str, optional
        What networks are trained on: the dataset's ``labels``, or the ``regions`` WT, TC and ET that they make.
    configuration : mapping
        Fields laid over every configuration that does not inherit.
    configurations : mapping
        Fields laid over single configurations; a new name needs ``inherits_from`` or every field. What is said of one
        that the planner found no need for (3d_lowres, the cascade) is left out.
    members : mapping
        For an ensemble, what each member changes on top of all that. A member is a recipe of its own, called
        ``ENSEMBLE.MEMBER`` where its results lie and ``ENSEMBLE:MEMBER`` where it is asked for.
    combiner : Component, optional
        How an ensemble's members are combined, by default by the mean of their probabilities.
    folds : {"all", "best"}
        Whether an ensemble takes every fold of every member, or of each fold the member that did best on it.
    postprocessing : tuple of Component
        What follows the combination; a single network's rules stand in its configuration.
    """

    name: str
    about: str
    source: str = ""
    reported: dict[str, Any] = Field(default_factory=dict)
    extends: str | None = None
    preset: PresetName | None = None
    target: Literal["labels", "regions"] | None = None
    configuration: dict[str, Any] = Field(default_factory=dict)
    configurations: dict[str, dict[str, Any]] = Field(default_factory=dict)
    members: dict[MemberName, MemberRecipe] = Field(default_factory=dict)
    combiner: Component = Component(name="mean")
    folds: Literal["all", "best"] = "all"
    postprocessing: tuple[Component, ...] = ()

    @model_validator(mode="after")
    def _ensembles_have_members(self) -> Recipe:
        if not self.members and {"combiner", "folds", "postprocessing"} & self.model_fields_set and not self.extends:
            raise ValueError("'combiner', 'folds' and 'postprocessing' need 'members'")
        if len(self.members) == 1 and not self.extends:
            raise ValueError("one member is no ensemble")
        return self

    def member(self, name: str) -> Recipe:
        """A member as a recipe of its own.

        Raises
        ------
        PlanError
            When there is no such member; the nearest is named.
        """
        if name not in self.members:
            near = difflib.get_close_matches(name, self.members, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(self.members) or 'none'}"
            raise PlanError(f"recipe '{self.name}' has no member '{name}'", mend=hint)
        own = self.members[name]
        return Recipe(
            name=f"{self.name}.{name}",
            about=own.about or self.about,
            source=self.source,
            preset=own.preset or self.preset,
            target=own.target or self.target,
            configuration=merge(self.configuration, own.configuration),
            configurations=merge(self.configurations, own.configurations),
        )

    def parts(self) -> dict[str, Recipe]:
        """What is trained: the members by name, of a recipe without any the recipe itself."""
        return {name: self.member(name) for name in self.members} or {self.name: self}

    def said_of(self, name: str) -> dict[str, Any]:
        """Everything that is changed in a configuration that does not inherit."""
        return merge(self.configuration, self.configurations.get(name, {}))

    def check_budget(self, name: str) -> None:
        """Refuse sizes of a configuration, which a time budget decides.

        Raises
        ------
        PlanError
            It names the first.
        """
        named = [field for field in _SIZES if field in self.said_of(name)]
        if named:
            what = f"names '{named[0]}', which a time budget decides"
            mend = "leave out --budget when planning, or that field of the recipe"
            raise PlanError(what, where=f"recipe '{self.name}'", mend=mend)

    def check_ensemble(self) -> None:
        """Look up the combiner and the rules and validate their options.

        Raises
        ------
        PlanError
            For an unknown component or option, a value that does not fit, what an ensemble has and this recipe, which
            is none, has too, or a combiner that was made for another number of members.
        """
        if not self.members and (self.combiner != Component(name="mean") or self.folds != "all" or self.postprocessing):
            raise PlanError("'combiner', 'folds' and 'postprocessing' need 'members'", where=f"recipe '{self.name}'")
        options = registry.options("combiner", self.combiner.name, self.combiner.options)
        if self.members:
            check_count(options, len(self.members), where=f"recipe '{self.name}', combiner {self.combiner.name}")
        for rule in self.postprocessing:
            registry.options("postprocessing", rule.name, rule.options)


def check_count(options: Any, members: int, where: str) -> None:
    """Refuse options of a combiner that name more, fewer or other members than there are.

    Raises
    ------
    PlanError
        It names the wrong member or the number of weights.
    """
    positions = getattr(options, "members", None)
    weights = getattr(options, "weights", None)
    if positions is not None and not all(0 <= position < members for position in positions.values()):
        wrong = next(name for name, position in positions.items() if not 0 <= position < members)
        raise PlanError(
            f"'{wrong}' comes from member {positions[wrong]}", where=where, mend=f"count from 0 to {members - 1}"
        )
    if weights is not None and len(weights) != members:
        raise PlanError(f"{len(weights)} weights for {members} members", where=where)


def recipe_folder() -> Path:
    """Where the shipped recipes lie: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "plans"
    return installed if installed.is_dir() else package.parent / "plans"


def _read(path: Path) -> Recipe:
    values = read_json(path)
    if not isinstance(values, dict):
        raise PlanError("a recipe is a JSON object", where=path)
    if not re.fullmatch(_WORD, path.stem):
        mend = "rename it with letters, digits and single _ or -, since folders are called after it"
        raise PlanError(f"'{path.stem}' is no name for a recipe", where=path, mend=mend)
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

    ``ENSEMBLE:MEMBER`` is a member of either.

    Raises
    ------
    PlanError
        When there is no such recipe, it does not fit the schema, or recipes extend each other in a circle.
    """
    whole, colon, member = str(name_or_path).rpartition(":")
    if colon and not member.endswith(".json"):
        return load_recipe(whole).member(member)
    path = _find(name_or_path)
    chain, seen = [_read(path)], [path.resolve()]
    while (base := chain[-1].extends) is not None:
        # A file is first sought beside the recipe that names it.
        path = path.parent / base if base.endswith(".json") else _find(base)
        if path.resolve() in seen:
            raise PlanError(f"recipe '{chain[0].name}' extends itself through '{path.stem}'")
        seen.append(path.resolve())
        chain.append(_read(path))
    recipe = chain.pop()
    while chain:
        above = chain.pop()
        recipe = parse(Recipe, _over(recipe, above), where=f"recipe '{above.name}'")
    recipe.check_ensemble()
    return recipe


def _over(below: Recipe, above: Recipe) -> dict[str, Any]:
    lower, upper = below.model_dump(), above.model_dump()
    merged = {name: merge(lower[name], upper[name]) for name in ("configuration", "configurations")}
    members = merge(lower["members"], above.model_dump(exclude_unset=True).get("members", {}))
    ensemble = {name: (above if name in above.model_fields_set else below) for name in _OF_ENSEMBLES}
    return (
        upper
        | {"preset": above.preset or below.preset, "target": above.target or below.target, "members": members}
        | merged
        | {name: getattr(recipe, name) for name, recipe in ensemble.items()}
    )


def apply_recipe(plan: Plan, recipe: Recipe | str | Path) -> Plan:
    """A new plan: `plan` with the recipe laid over it, under the recipe's name.

    Of an ensemble only what all members share is laid over it. A plan for a time budget has one configuration, in 3D
    at whatever spacing: what the recipe says of 3d_fullres is laid over that, and its number of steps stays.

    Raises
    ------
    PlanError
        When the recipe names fields, components or options that do not exist, or the result does not fit together.
    """
    chosen = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    values = plan.model_dump(mode="json") | {"recipe": chosen.name}
    if chosen.target is not None:
        values["target"] = chosen.target
    values["configurations"] = _lay(
        values["configurations"], chosen if plan.budget_seconds is None else _within_budget(plan, chosen)
    )
    try:
        changed = parse(Plan, values)
        changed.check()
    except PlanError as error:
        what = error.what if error.where is None else f"{error.where}: {error.what}"
        raise PlanError(what, where=f"recipe '{chosen.name}'", mend=error.mend) from None
    return changed


def _within_budget(plan: Plan, recipe: Recipe) -> Recipe:
    """A recipe as far as it concerns the one configuration of a plan for a time budget."""
    said = {}
    for name in plan.configurations:
        usual = "2d" if plan.configuration(name).dims == 2 else "3d_fullres"
        recipe.check_budget(usual)
        said[name] = _without_length(recipe.configurations.get(usual, {}))
    return recipe.model_copy(update={"configuration": _without_length(recipe.configuration), "configurations": said})


def _without_length(fields: Mapping[str, Any]) -> dict[str, Any]:
    training = fields.get("training")
    if not isinstance(training, Mapping):
        return dict(fields)
    return {**fields, "training": {key: value for key, value in training.items() if key not in _LENGTH}}


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

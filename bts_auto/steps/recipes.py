"""Showing recipes: what there is, how large it is, what its publication reports."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bts_auto.steps.place import Outcome

if TYPE_CHECKING:
    from bts_auto.model.size import NetworkSize
    from bts_auto.plan.recipes import Recipe

_WIDTH = 110
_CONFIGURATION = "3d_fullres"
_MEASURED_ON = f"Sizes: {_CONFIGURATION} on four 1 mm sequences of BraTS, GFLOP for one patch in inference."


def recipes(name: str | Path | None = None) -> Outcome:
    """List the recipes, or show one.

    Parameters
    ----------
    name : str or Path, optional
        A recipe's name or file, or ``ENSEMBLE:MEMBER``.
    """
    from bts_auto.plan.recipes import list_recipes, load_recipe

    if name is not None:
        one = load_recipe(name)
        sizes = _sizes(one)
        return Outcome(1, (), _as_json(one, sizes), tuple(_shown(one, sizes)))
    found = [load_recipe(one.name) for one in list_recipes()]
    rows: list[tuple[str, ...]] = [("recipe", "networks", "parameters", "GFLOP", "reported Dice")]
    data: list[dict[str, Any]] = []
    for one in found:
        sizes = _sizes(one)
        data.append(_as_json(one, sizes))
        parameters, gflop = sum(s.parameters for s in sizes.values()), sum(s.gflop for s in sizes.values())
        rows.append((one.name, str(len(sizes)), _millions(parameters), f"{gflop:.0f}", _headline(one)))
    lines = [*_aligned(rows), "", _MEASURED_ON, "bts_recipes NAME shows one."]
    return Outcome(len(found), (), {"recipes": data}, tuple(lines))


def _as_json(recipe: Recipe, sizes: Mapping[str, NetworkSize]) -> dict[str, Any]:
    return recipe.model_dump(mode="json") | {"networks": {name: vars(size) for name, size in sizes.items()}}


def _sizes(recipe: Recipe) -> dict[str, NetworkSize]:
    """The size of each member's network, or of the recipe's own under its name."""
    from bts_auto.model.size import network_size
    from bts_auto.plan.recipes import apply_recipe
    from bts_auto.plan.reference import reference_plan

    sizes = {}
    for name, one in recipe.parts().items():
        made = apply_recipe(reference_plan(one.preset or "plain"), one)
        sizes[name] = network_size(made, _CONFIGURATION)
    return sizes


def _millions(parameters: int) -> str:
    return f"{parameters / 1e6:.1f} M"


def _headline(recipe: Recipe) -> str:
    """The Dice of the first cohort that is reported."""
    for cohort, figures in recipe.reported.items():
        if isinstance(figures, Mapping) and isinstance(figures.get("dice"), Mapping):
            dice = " ".join(f"{region} {value:.4g}" for region, value in figures["dice"].items())
            return f"{dice} ({cohort})"
    return "-"


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    return ["  ".join([*(cell.ljust(n) for cell, n in zip(row, widths, strict=False)), row[-1]]) for row in rows]


def _shown(recipe: Recipe, sizes: Mapping[str, NetworkSize]) -> Iterator[str]:
    """One recipe in readable form."""
    yield recipe.name
    yield from textwrap.wrap(recipe.about, _WIDTH)
    if recipe.source:
        yield from ("", *textwrap.wrap(f"Source: {recipe.source}", _WIDTH))
    for cohort, figures in recipe.reported.items():
        yield f"Reported, {cohort}: {_figures(figures)}"
    yield ""
    if recipe.preset:
        yield f"sized as: {recipe.preset}"
    if recipe.target:
        yield f"trained on: {recipe.target}"
    yield from _changes({"every configuration": recipe.configuration} | recipe.configurations)
    for name, member in recipe.members.items():
        yield f"member {name}: {member.about}".rstrip(": ")
        yield f"  network: {_size(sizes[name])}"
        changed = {"every configuration": member.configuration} | member.configurations
        yield from (f"  {line}" for line in _changes(changed))
    if not recipe.members:
        yield f"network: {_size(sizes[recipe.name])}"
    else:
        how = "the best member of each fold, then the mean" if recipe.folds == "best" else _component(recipe.combiner)
        yield f"combined by: {how}"
    for rule in recipe.postprocessing:
        yield f"then: {_component(rule)}"
    yield from ("", _MEASURED_ON)


def _size(size: NetworkSize) -> str:
    return f"{size.parameters:,} parameters, {size.gflop:.0f} GFLOP"


def _component(one: Any) -> str:
    return one.name + (f" {_plain(one.options)}" if one.options else "")


def _figures(figures: Any) -> str:
    if not isinstance(figures, Mapping):
        return str(figures)
    return "; ".join(f"{metric}: {_plain(values)}" for metric, values in figures.items())


def _changes(parts: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Changed fields, one a line, with their path."""
    for name, fields in parts.items():
        for path, value in _leaves(fields):
            if isinstance(value, list) and value and all(isinstance(one, Mapping) and "name" in one for one in value):
                yield f"{name}: {path} ="
                yield from (f"    {one['name']} {_plain(one.get('options', {}))}".rstrip() for one in value)
            else:
                yield f"{name}: {path} = {_plain(value)}"


def _leaves(fields: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in fields.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(one)}" for key, one in value.items())
    if isinstance(value, list):
        return " to ".join(map(_plain, value)) if len(value) == 2 else ", ".join(map(_plain, value))
    return str(value)

"""Training a recipe, or where it is an ensemble, every member of it in turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bts_auto.errors import BtsError, CaseFailure
from bts_auto.events import SILENT, Observer
from bts_auto.steps import training
from bts_auto.steps.place import Outcome, locate


def train(
    configuration: str,
    fold: str | int,
    *,
    recipe: str | Path | None = None,
    budget: float | None = None,
    observer: Observer = SILENT,
    **how: Any,
) -> Outcome:
    """Train a configuration as :func:`bts_auto.steps.training.train` does, for each member where `recipe` has members.

    Parameters
    ----------
    configuration : str
        A configuration of the plan: ``3d_fullres``.
    fold : str or int
        A fold's number, ``"all"`` or ``"cv"``.
    recipe : str or Path, optional
        A recipe's name or file; ``ENSEMBLE:MEMBER`` for a single member.
    budget : float, optional
        Seconds for everything; members get equal parts, the same when the command is repeated.
    **how
        Everything else that training takes.
    """
    from bts_auto.ensemble.published import remember_ensemble
    from bts_auto.plan.recipes import load_recipe

    laid = None if recipe is None else load_recipe(recipe)
    if laid is None or not laid.members:
        return training.train(configuration, fold, recipe=recipe, budget=budget, observer=observer, **how)
    place = locate(how.get("dataset"), how.get("workspace"), SILENT)
    remember_ensemble(laid, place.results)
    done: dict[str, Outcome] = {}
    failures: list[CaseFailure] = []
    share = None if budget is None else budget / len(laid.members)
    for number, name in enumerate(laid.members):
        observer.note(f"{laid.name}: member {number + 1} of {len(laid.members)}, {name}")
        try:
            done[name] = training.train(
                configuration, fold, recipe=f"{recipe}:{name}", budget=share, observer=observer, **how
            )
        except BtsError as error:
            failures.append(CaseFailure(name, str(error)))
            observer.failed(failures[-1])
    if not done:
        raise BtsError(f"no member of '{laid.name}' could be trained, the first because: {failures[0].reason}")
    failures += [CaseFailure(f"{name}, {f.case}", f.reason) for name, one in done.items() for f in one.failures]
    data = {"recipe": laid.name, "members": {name: one.data for name, one in done.items()}}
    lines = tuple(f"{name}: {line}" for name, one in done.items() for line in one.lines)
    return Outcome(sum(one.done for one in done.values()), tuple(failures), data, lines)

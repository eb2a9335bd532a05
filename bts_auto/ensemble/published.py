"""Ensemble recipes whose members are trained, as candidates beside those that are searched."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bts_auto.documents import parse
from bts_auto.ensemble.discover import Trained
from bts_auto.ensemble.ranking import case_dice
from bts_auto.ensemble.scorer import Candidate, Scorer
from bts_auto.errors import BtsError, DataError
from bts_auto.files import read_json, write_json
from bts_auto.plan.recipes import Recipe

_ENDING = ".recipe.json"


def remember_ensemble(recipe: Recipe, results: Path) -> Path:
    """Write an ensemble recipe beside the results of its members, where choosing finds it."""
    path = results / f"{recipe.name}{_ENDING}"
    write_json(path, recipe.model_dump(mode="json"))
    return path


def find_ensembles(results: Path) -> tuple[list[Recipe], list[str]]:
    """The ensemble recipes that were trained in a dataset's results folder, sorted by name.

    Returns
    -------
    recipes : list of Recipe
    notes : list of str
        Which files cannot be read, and why.
    """
    recipes, notes = [], []
    for path in sorted(results.glob(f"*{_ENDING}")):
        try:
            recipes.append(parse(Recipe, read_json(path), where=path))
        except (BtsError, OSError) as error:
            name = path.name.removesuffix(_ENDING)
            notes.append(f"ensemble {name} is left out: {error} - remove the file; training it writes it again")
    return recipes, notes


def ensemble_candidates(
    recipes: Sequence[Recipe], scorer: Scorer, cases: Sequence[str]
) -> tuple[list[Candidate], list[str]]:
    """One candidate for each ensemble and each configuration that all its members are trained in.

    Where an ensemble keeps of each fold the best member, that is decided by mean Dice on those of `cases` which the
    fold held out, as the first member where it held out none.

    Returns
    -------
    candidates : list of Candidate
    notes : list of str
        Which ensembles cannot be used, and why.
    """
    found: list[Candidate] = []
    notes: list[str] = []
    positions = {(one.member.recipe, one.member.configuration): i for i, one in enumerate(scorer.trained)}
    for recipe in recipes:
        reason = "not all of its members are trained and validated"
        usable = []
        for configuration in dict.fromkeys(configuration for _, configuration in positions):
            members = [positions.get((f"{recipe.name}.{name}", configuration)) for name in recipe.members]
            there = [position for position in members if position is not None]
            if len(there) < len(members):
                continue
            try:
                candidate = _candidate(recipe, there, scorer, cases)
                _check(candidate, scorer)
                usable.append(candidate)
            except BtsError as error:
                reason = str(error)
        found += usable
        if not usable:
            notes.append(f"ensemble {recipe.name} is left out: {reason}")
    return found, notes


def _check(candidate: Candidate, scorer: Scorer) -> None:
    """Refuse a candidate that cannot be scored, as far as one case tells."""
    if not scorer.can_score(candidate):
        raise DataError("not all probabilities of its members are cached")
    scorer.scores(candidate, (), scorer.cases[:1])


def _candidate(recipe: Recipe, members: list[int], scorer: Scorer, cases: Sequence[str]) -> Candidate:
    options = json.dumps(recipe.combiner.options, sort_keys=True)
    combiner, rules = recipe.combiner.name, recipe.postprocessing
    if recipe.folds == "all":
        return Candidate(tuple(members), combiner, recipe=recipe.name, options=options, rules=rules)
    picks = _best_members(scorer.trained, members, scorer, cases)
    used = tuple(sorted({member for _, member in picks}))
    counts = [sum(member == one for _, member in picks) for one in used]
    weights = None if len(used) == 1 else tuple(count / len(picks) for count in counts)
    name = "mean" if weights is None else "weighted"
    return Candidate(used, name, weights, recipe=recipe.name, rules=rules, picks=picks)


def _best_members(
    trained: Sequence[Trained], members: list[int], scorer: Scorer, cases: Sequence[str]
) -> tuple[tuple[int, int], ...]:
    """For each fold that all members have, the position of the one with the best mean Dice on `cases` of it."""
    shared = set.intersection(*(set(trained[i].member.folds) for i in members))
    picks = []
    for fold in sorted(shared):
        own = [case for case in cases if trained[members[0]].fold_of(case) == fold]
        best = members[0]
        if own:
            dice = [case_dice(scorer.scores(Candidate((i,)), (), own), scorer.metrics).mean() for i in members]
            best = members[int(np.argmax(dice))]
        picks.append((fold, best))
    return tuple(picks)

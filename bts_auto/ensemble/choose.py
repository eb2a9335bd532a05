"""Choosing the best of what is trained, and saying honestly how good it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from bts_auto.data.raters import Reference, read_reference
from bts_auto.data.raw import RawDataset
from bts_auto.data.readers import read_volume
from bts_auto.data.splits import Split, read_splits
from bts_auto.ensemble.best import Best, Member, ScoredCandidate, TriedRule
from bts_auto.ensemble.calibration import Calibration
from bts_auto.ensemble.confidence import assess, look_at_training
from bts_auto.ensemble.discover import Trained, discover, readers
from bts_auto.ensemble.published import ensemble_candidates, find_ensembles
from bts_auto.ensemble.ranking import METRICS, RankingRule, mean_dice
from bts_auto.ensemble.scorer import Candidate, Rules, Scorer
from bts_auto.ensemble.search import Ranked, search_members, search_rules
from bts_auto.errors import BtsError, DataError
from bts_auto.events import SILENT, Observer, Task
from bts_auto.plan.recipes import Recipe
from bts_auto.plan.schema import Component
from bts_auto.pool import in_order
from bts_auto.postprocess.context import arrange

# Below this many cases the noise of a score hides what post-processing can gain.
LEAST_CASES = 10
_NESTED_GROUPS = 10


@dataclass(frozen=True)
class Choice:
    """What was chosen, and where it was written."""

    best: Best
    path: Path


def choose(
    results: Path | str,
    raw: RawDataset,
    preprocessed: Path | str | None = None,
    *,
    rule: RankingRule = "mean_dice",
    search: bool | None = None,
    recipe: str | None = None,
    observer: Observer = SILENT,
) -> Choice:
    """Score every trained recipe and configuration and their combinations, choose, and write ``best.json``.

    Parameters
    ----------
    results : Path
        The dataset's results folder.
    raw : RawDataset
        For the reference masks and the labels.
    preprocessed : Path, optional
        The dataset's preprocessed folder, for its splits: with them, only cases that a fold held out count.
    rule : {"mean_dice", "brats_ranking"}
        How combinations are compared.
    search : bool, optional
        Whether post-processing is searched; default: with 10 cases or more.
    recipe : str, optional
        Choose this one: an ensemble as it is written, or what is best of a single one's configurations.

    Returns
    -------
    Choice
        Members without cross-validated predictions, or with fewer of them than others, are left out; its notes say so.
        Files that cannot be read count as missing.

    Raises
    ------
    DataError
        When nothing is trained and validated, of the recipe where one is named, or no case can be scored.
    """
    notes: list[str] = []

    def note(message: str) -> None:
        notes.append(message)
        observer.note(message)

    scorer = _scorer(Path(results), raw, preprocessed, rule, recipe, note)
    ensembles = _ensembles(Path(results), scorer, recipe, note)
    searched = len(scorer.cases) >= LEAST_CASES if search is None else search
    if not searched:
        too_few = f"too few cases ({len(scorer.cases)} of {LEAST_CASES} that are needed)"
        note(f"post-processing is not searched: {'as asked for' if search is False else too_few}")
    for message in _without_probabilities(scorer.trained):
        note(message)
    selection = _Selection(scorer, rule, ensembles, recipe if ensembles else None, searched)
    with observer.task("Choosing", 3 + len(_groups(scorer.cases)), "step") as task:
        chosen = selection.on(scorer.cases, task)
        task.advance()
        nested = selection.nested_score(task)
        calibration, agreement = assess(scorer, chosen.ranked.candidates[0], chosen.rules, note)
        task.advance()
        look = look_at_training(raw, note)
        task.advance()
    lost = _lost(results, calibration)
    if lost is not None:
        notes.append(lost)
        observer.warn(lost)
    sure = {"calibration": calibration, "agreement": agreement, "training": look, "notes": tuple(notes)}
    best = _best(raw.name, selection, chosen, nested).model_copy(update=sure)
    return Choice(best, best.save(results))


@dataclass(frozen=True)
class _Chosen:
    """Candidates from best to worst, and post-processing for the best."""

    ranked: Ranked
    rules: Rules
    tried: list[TriedRule]


@dataclass(frozen=True)
class _Selection:
    """How the choice is made; made again without some cases, it tells what it is worth on them.

    Attributes
    ----------
    ensembles : sequence of Recipe
        Published ones that compete.
    only : str or None
        The one of them that is taken in any case.
    searched : bool
        Whether post-processing is searched.
    """

    scorer: Scorer
    rule: RankingRule
    ensembles: Sequence[Recipe]
    only: str | None
    searched: bool

    def on(self, cases: Sequence[str], task: Task) -> _Chosen:
        """The best members and post-processing on `cases`; `task` hears of each round of post-processing."""
        published = ensemble_candidates(self.ensembles, self.scorer, cases)[0]
        ranked = search_members(self.scorer, cases, self.rule, published)
        if self.only is not None:
            kept = [i for i, one in enumerate(ranked.candidates) if one.recipe == self.only]
            ranked = Ranked([ranked.candidates[i] for i in kept], ranked.scores[kept], ranked.values[kept])
        if not self.searched:
            return _Chosen(ranked, (), [])

        def heard(number: int) -> None:
            task.advance(0, round=number + 1)

        return _Chosen(ranked, *search_rules(self.scorer, ranked.candidates[0], cases, heard))

    def nested_score(self, task: Task) -> float | None:
        """Mean Dice of choices, each made without the cases it is scored on; None with fewer than two cases."""
        parts = []
        for held_out in _groups(self.scorer.cases):
            chosen = self.on([case for case in self.scorer.cases if case not in held_out], task)
            parts.append(self.scorer.scores(chosen.ranked.candidates[0], chosen.rules, held_out))
            task.advance()
        return mean_dice(np.concatenate(parts), self.scorer.metrics) if parts else None


def _groups(cases: Sequence[str]) -> list[list[str]]:
    """The cases that are left out together where the choice is made again; none with fewer than two cases."""
    if len(cases) < 2:
        return []
    return [[cases[i] for i in part] for part in np.array_split(np.arange(len(cases)), min(_NESTED_GROUPS, len(cases)))]


def _scorer(
    results: Path,
    raw: RawDataset,
    preprocessed: Path | str | None,
    rule: RankingRule,
    recipe: str | None,
    note: Callable[[str], None],
) -> Scorer:
    """Of what is trained, of `recipe` where one is named, on the cases that can be scored."""
    trained, left_out = discover(results, raw.file_ending, _splits(raw, preprocessed))
    for message in left_out:
        note(message)
    if recipe is not None:
        trained = _of_recipe(trained, recipe, results)
    trained, references = _with_references(trained, raw, note)
    return Scorer(trained, references, raw.labels, METRICS[rule], brain_of=partial(_brain, raw))


def _ensembles(results: Path, scorer: Scorer, recipe: str | None, note: Callable[[str], None]) -> list[Recipe]:
    """The published ensembles that are trained, of `recipe` where one is named."""
    found, unreadable = find_ensembles(results)
    found = found if recipe is None else [one for one in found if one.name == recipe]
    usable, unusable = ensemble_candidates(found, scorer, ())
    for message in (*unreadable, *unusable):
        note(message)
    if recipe is not None and found and not usable:
        raise DataError(unusable[0], where=results, mend=f"bts_train CONFIG cv --recipe {recipe} trains all of them")
    return found


def _brain(raw: RawDataset, case: str) -> np.ndarray:
    """Where a case's images are not zero."""
    images = raw.training_cases()[case].images
    return (read_volume(images, raw.channels, nan_to_zero=True).array != 0).any(axis=0)


def _splits(raw: RawDataset, preprocessed: Path | str | None) -> list[Split] | None:
    """The dataset's folds where they are on disk."""
    folder = raw.folder if preprocessed is None else Path(preprocessed)
    return read_splits(raw.folder, folder, raw.training_cases())


def _without_probabilities(trained: Sequence[Trained]) -> list[str]:
    """What members without all cached probabilities cannot be, and how they get them."""
    poor = [one for one in trained if not one.has_probabilities]
    if len(trained) == 1 or not poor:
        return []
    alone = len(trained) - len(poor) > 1
    notes = [
        f"{one.member.name} {'competes alone' if alone else 'can only vote'}: cached probabilities are missing for "
        f"{len(one.masks.keys() - one.caches.keys())} of {len(one.masks)} cases; {one.validation_command} makes them"
        for one in poor
    ]
    return notes if alone else [*notes, "members vote, three at a time (a vote of two is the first)"]


def _lost(results: Path | str, calibration: Calibration | None) -> str | None:
    """What an earlier choice knew about confidence and the new one does not."""
    try:
        earlier = Best.load(results)
    except BtsError:
        return None
    if earlier is None or earlier.calibration is None or calibration is not None:
        return None
    score = "" if earlier.plain_score is None else f", mean Dice {earlier.plain_score:.4f}"
    return (
        f"the earlier choice ({' + '.join(one.name for one in earlier.members)}{score}) was calibrated, this one is "
        "not: make the missing probabilities by bts_train CONFIG cv --val and choose again"
    )


def _with_references(
    trained: list[Trained], raw: RawDataset, note: Callable[[str], None]
) -> tuple[list[Trained], dict[str, Reference]]:
    """The members cut to the cases with a reference mask, and those masks."""
    known = {case: files.mask for case, files in raw.training_cases().items()}
    in_part = [case for case in trained[0].masks if case in raw.partial]
    if in_part:
        note(
            f"{', '.join(in_part)} left out: annotated for some labels only, so that members cannot be compared on them"
        )
    cases = [case for case in trained[0].masks if case not in raw.partial]
    problems = in_order(lambda case: _misfit(case, known.get(case), trained), cases, readers())
    references: dict[str, Reference] = {}
    for case, problem in zip(cases, problems, strict=True):
        mask = known.get(case)
        if mask is None or problem is not None:
            note(f"{case} is left out: {problem}")
        else:
            references[case] = mask
    if not references:
        raise DataError("no predicted case has a reference mask for all labels", where=raw.folder)
    cut = [replace(one, masks={c: one.masks[c] for c in references}) for one in trained]
    return cut, references


def _misfit(case: str, reference: Reference | None, trained: Sequence[Trained]) -> str | None:
    """Why predictions of a case cannot be compared with its reference."""
    if reference is None or not reference.is_file():
        return "the raw dataset has no reference mask of it"
    try:
        size = read_reference(reference)[1].size
    except (BtsError, OSError) as error:
        return f"its reference mask cannot be used ({error})"
    for one in trained:
        if one.sizes[case] != size:
            return f"{one.member.name} predicted it on a grid of {one.sizes[case]}, the reference has {size}"
    return None


def _of_recipe(trained: Sequence[Trained], recipe: str, results: Path) -> list[Trained]:
    """What is trained of a recipe, or of an ensemble's members."""
    found = [one for one in trained if one.member.recipe == recipe or one.member.recipe.startswith(f"{recipe}.")]
    if not found:
        there = ", ".join(dict.fromkeys(one.member.recipe.partition(".")[0] for one in trained))
        raise DataError(f"no '{recipe}' is trained and validated", where=results, mend=f"there are {there}")
    return found


def _best(dataset_name: str, selection: _Selection, chosen: _Chosen, nested: float | None) -> Best:
    """What is written of the choice, without what is known of its confidence."""
    scorer, ranked, first = selection.scorer, chosen.ranked, chosen.ranked.candidates[0]
    plain = mean_dice(scorer.scores(first, chosen.rules, scorer.cases), scorer.metrics)
    return Best(
        dataset_name=dataset_name,
        members=tuple(_member(scorer, first, i) for i in first.members),
        recipe=first.recipe,
        combiner=Component(name=first.combiner, options=json.loads(first.options)),
        weights=first.weights,
        postprocessing=arrange((*first.rules, *chosen.rules)),
        rule=selection.rule,
        regions=tuple(scorer.regions),
        cases=scorer.cases,
        plain_score=plain,
        nested_score=nested,
        optimism=None if nested is None else plain - nested,
        candidates=tuple(_scored(scorer, ranked, i) for i in range(len(ranked.candidates))),
        tried_rules=tuple(chosen.tried),
    )


def _member(scorer: Scorer, chosen: Candidate, position: int) -> Member:
    """A member with the folds that are taken from it."""
    member = scorer.trained[position].member
    folds = tuple(fold for fold, one in chosen.picks if one == position)
    return member.model_copy(update={"folds": folds}) if chosen.picks else member


def _scored(scorer: Scorer, ranked: Ranked, position: int) -> ScoredCandidate:
    candidate: Candidate = ranked.candidates[position]
    value = float(ranked.values[position])
    return ScoredCandidate(
        members=tuple(scorer.trained[i].member.name for i in candidate.members),
        weights=candidate.weights,
        combiner=candidate.combiner,
        recipe=candidate.recipe,
        mean_dice=mean_dice(ranked.scores[position], scorer.metrics),
        value=value if len(scorer.metrics) == 1 else -value,
    )

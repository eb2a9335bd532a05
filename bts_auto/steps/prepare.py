"""Fingerprint, plan, preprocess."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bts_auto.errors import CaseFailure, DataError
from bts_auto.events import SILENT, Observer
from bts_auto.files import read_json, write_json
from bts_auto.steps.place import FINGERPRINT_FILE, Outcome, Place, counted, locate, merged
from bts_auto.steps.planning import Request

if TYPE_CHECKING:
    from bts_auto.data.fingerprint import Fingerprint
    from bts_auto.data.split_rules import SplitRules
    from bts_auto.plan.schema import Plan


def _fingerprint(
    place: Place, workers: int | None, nan_to_zero: bool, observer: Observer
) -> tuple[Fingerprint, list[CaseFailure]]:
    from bts_auto.data.fingerprint import compute_fingerprint

    found, failures = compute_fingerprint(
        place.dataset(),
        workers=workers,
        nan_to_zero=nan_to_zero,
        cache=place.preprocessed / FINGERPRINT_FILE,
        observer=observer,
    )
    place.preprocessed.mkdir(parents=True, exist_ok=True)
    found.save(place.preprocessed / FINGERPRINT_FILE)
    write_json(place.preprocessed / "dataset.json", read_json(place.raw / "dataset.json"))
    return found, failures


def _zeroed_before(place: Place) -> bool:
    """Whether the dataset was last measured with NaN counted as 0."""
    from bts_auto.data.fingerprint import Fingerprint

    path = place.preprocessed / FINGERPRINT_FILE
    return path.exists() and Fingerprint.load(path).nan_to_zero


def fingerprint(
    *,
    dataset: str | int | None = None,
    workspace: Path | None = None,
    workers: int | None = None,
    nan_to_zero: bool = False,
    observer: Observer = SILENT,
) -> Outcome:
    """Check every case of a raw dataset and measure what planning needs."""
    place = locate(dataset, workspace, observer)
    found, failures = _fingerprint(place, workers, nan_to_zero, observer)
    path = place.preprocessed / FINGERPRINT_FILE
    line = f"{counted(len(found.spacings), 'case')} measured: {path}"
    return Outcome(len(found.spacings), merged(failures), {"dataset": place.name, "fingerprint": str(path)}, (line,))


def _plan(
    place: Place,
    found: Fingerprint,
    request: Request,
    recipe: str | Path | None,
    splits: Mapping[str, Any] | None,
    observer: Observer,
) -> Plan:
    """Plan, remember the dataset, and save the plan; a recipe's own beside the dataset's."""
    from bts_auto.data.workspace import Workspace
    from bts_auto.plan.recipes import load_recipe
    from bts_auto.steps.planning import Planning

    laid = None if recipe is None else load_recipe(recipe)
    preset = request.preset or (laid.preset if laid is not None else None) or "plain"
    document = read_json(place.raw / "dataset.json")
    path = place.plan_path(None if laid is None else laid.name)
    planning = Planning(found, document, place.name, request, place.rates_folder, observer, laid)
    made = planning.made_before(path, preset)
    rules = _split_rules(place, splits)
    if made is None:
        made = planning.make(preset).model_copy(update={"splits": rules})
        if laid is not None and not place.plan_path().exists():
            # Whoever asks without the recipe that it was sized for gets a plan of his own.
            made.model_copy(update={"asked": None}).save(place.plan_path())
        made = planning.laid(made)
        made.save(path)
    Workspace(place.raw.parent, place.preprocessed.parent, place.results.parent).remember(place.name)
    return made.model_copy(update={"splits": rules})


def _split_rules(place: Place, changes: Mapping[str, Any] | None) -> SplitRules:
    """How the dataset's folds are drawn: as its plan says, with `changes`, which are saved where there is a plan."""
    from bts_auto.data.split_rules import SplitRules
    from bts_auto.documents import parse
    from bts_auto.plan.schema import Plan

    rules = place.split_rules()
    if changes:
        rules = parse(SplitRules, rules.model_dump() | dict(changes), where="splits")
        if place.plan_path().exists():
            Plan.load(place.plan_path()).model_copy(update={"splits": rules}).save(place.plan_path())
    return rules


def plan(
    *,
    dataset: str | int | None = None,
    workspace: Path | None = None,
    gpu_memory: float | None = None,
    preset: str | None = None,
    planner: Literal["nnunet", "measured"] | None = None,
    budget: float | None = None,
    device: str = "auto",
    measure_again: bool = False,
    recipe: str | Path | None = None,
    splits: Mapping[str, Any] | None = None,
    observer: Observer = SILENT,
) -> Outcome:
    """Plan for a dataset; cases that were not measured yet, or have changed since, are measured first.

    `gpu_memory`, `preset`, `planner`, `budget`, `device` and `measure_again` are those of
    :class:`bts_auto.steps.planning.Request`; `splits` are fields of :class:`bts_auto.data.split_rules.SplitRules` that
    shall be others than before.
    """
    request = Request(gpu_memory, preset, planner, budget, device, measure_again)
    place = locate(dataset, workspace, observer)
    found, failures = _fingerprint(place, None, _zeroed_before(place), observer)
    made = _plan(place, found, request, recipe, splits, observer)
    path = place.plan_path(made.recipe)
    data = {"dataset": place.name, "plan": str(path)}
    return Outcome(1, merged(failures), data, (*plan_lines(made), f"plan: {path}"))


def plan_lines(made: Plan) -> tuple[str, ...]:
    """A plan's sizes and what they are expected to take, for each configuration; what to do where that is days."""
    from bts_auto.plan.expect import advice, in_words

    lines = []
    for name in made.configurations:
        c = made.configuration(name)
        patch, spacing = "x".join(map(str, c.patch_size)), "x".join(f"{s:.3g}" for s in c.spacing)
        after = f", after {c.previous_stage}" if c.previous_stage else ""
        lines.append(f"{name}: patch {patch}, batch {c.batch_size}, spacing {spacing} mm, {c.n_stages} stages{after}")
        if (expected := in_words(made, name)) is not None:
            lines.append(f"{name}: {expected}")
    if (advised := advice(made)) is not None:
        lines.append(advised)
    return tuple(lines)


def preprocess(
    *,
    dataset: str | int | None = None,
    workspace: Path | None = None,
    recipe: str | Path | None = None,
    configurations: Sequence[str] | None = None,
    workers: int | None = None,
    nan_to_zero: bool = False,
    observer: Observer = SILENT,
) -> Outcome:
    """Crop, normalise, resample and store the cases of a planned dataset."""
    place = locate(dataset, workspace, observer)
    made = place.plan(recipe)
    for name in configurations or ():
        made.configuration(name)
    _, unfit = _fingerprint(place, workers, nan_to_zero, observer)
    return _preprocess(place, made, configurations, workers, nan_to_zero, unfit, observer)


def _preprocess(
    place: Place,
    made: Plan,
    configurations: Sequence[str] | None,
    workers: int | None,
    nan_to_zero: bool,
    unfit: list[CaseFailure],
    observer: Observer,
) -> Outcome:
    """Preprocess all cases but the unfit ones, which are removed where they are stored, and keep the folds in step."""
    from bts_auto.data.splits import load_or_make_splits
    from bts_auto.preprocess.dataset import preprocess_dataset

    chosen = _with_stages_before(made, configurations or tuple(made.configurations))
    raw = place.dataset()
    failures = preprocess_dataset(
        raw, made, chosen, place.preprocessed,
        workers=workers, nan_to_zero=nan_to_zero, leave_out={failure.case for failure in unfit}, observer=observer,
    )  # fmt: skip
    bad = merged(unfit, failures)
    wanting = [name for name in chosen if _takes_unlabelled(made, name)]
    if wanting and raw.unlabelled_cases():
        bad = merged(
            list(bad),
            preprocess_dataset(
                raw, made, wanting, place.preprocessed,
                workers=workers, nan_to_zero=nan_to_zero, unlabelled=True, observer=observer,
            ),
        )  # fmt: skip
    known = raw.training_cases()
    good = sorted(set(known) - {failure.case for failure in bad})
    if good:
        load_or_make_splits(place.raw, place.preprocessed, good, observer, known=known, rules=place.split_rules())
    data = {"dataset": place.name, "preprocessed": str(place.preprocessed), "configurations": chosen, "cases": good}
    lines = (f"{counted(len(good), 'case')} ready for {', '.join(chosen)}: {place.preprocessed}",)
    return Outcome(len(good), bad, data, lines)


def _with_stages_before(made: Plan, configurations: Sequence[str]) -> list[str]:
    """The configurations, each after the stages whose masks its training needs."""
    chosen: dict[str, None] = {}
    for name in configurations:
        chosen |= dict.fromkeys((*made.stages_before(name), name))
    return list(chosen)


def _takes_unlabelled(made: Plan, configuration: str) -> bool:
    """Whether a configuration's objective learns from scans without annotation."""
    from bts_auto import registry

    objective = made.configuration(configuration).training.objective
    return registry.options("objective", objective.name, objective.options).takes_unlabelled


def plan_and_preprocess(
    *,
    dataset: str | int | None = None,
    workspace: Path | None = None,
    gpu_memory: float | None = None,
    preset: str | None = None,
    planner: Literal["nnunet", "measured"] | None = None,
    budget: float | None = None,
    device: str = "auto",
    measure_again: bool = False,
    recipe: str | Path | None = None,
    splits: Mapping[str, Any] | None = None,
    configurations: Sequence[str] | None = None,
    workers: int | None = None,
    nan_to_zero: bool = False,
    observer: Observer = SILENT,
) -> Outcome:
    """Fingerprint, plan and preprocess in one go; the planning options are those of :func:`plan`."""
    request = Request(gpu_memory, preset, planner, budget, device, measure_again)
    place = locate(dataset, workspace, observer)
    found, failures = _fingerprint(place, workers, nan_to_zero, observer)
    if not found.spacings:
        reasons = "; ".join(f"{f.case}: {f.reason}" for f in failures[:3])
        raise DataError(f"none of the {len(failures)} cases can be used ({reasons})", where=place.raw)
    made = _plan(place, found, request, recipe, splits, observer)
    for line in plan_lines(made):
        observer.note(line)
    done = _preprocess(place, made, configurations, workers, nan_to_zero, failures, observer)
    if budget is None or not done.done:
        return done
    from bts_auto.steps.budget import settle

    settled = settle(place, made, request, recipe, observer)
    return replace(done, lines=(*done.lines, *settled))


def convert_brats(
    source: Path, dataset_id: int, name: str, *, workspace: Path | None = None, observer: Observer = SILENT
) -> Outcome:
    """Bring BraTS folders into the raw format."""
    from bts_auto.data.convert.brats import convert_brats as convert
    from bts_auto.data.workspace import Workspace

    converted = convert(source, Workspace.locate(workspace).raw, dataset_id, name, observer=observer)
    data = {"dataset": converted.folder.name, "folder": str(converted.folder), "cases": converted.done}
    line = f"{converted.done} cases: {converted.folder}"
    return Outcome(converted.done, merged(list(converted.failures)), data, (line,))

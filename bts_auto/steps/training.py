"""Train folds and validate them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bts_auto.errors import BtsError, CaseFailure, DataError
from bts_auto.events import SILENT, Observer
from bts_auto.steps.place import Outcome, Place, locate, merged

if TYPE_CHECKING:
    from bts_auto.data.splits import Split
    from bts_auto.evaluate.scores import Scores
    from bts_auto.model.layout import FoldName
    from bts_auto.plan.schema import Plan
    from bts_auto.preprocess.store import CaseStore
    from bts_auto.train.trainer import TrainingResult


def _splits(place: Place, cases: Sequence[str], fold: str, observer: Observer) -> list[tuple[FoldName, Split]]:
    """Which folds are meant by `fold`, with their cases."""
    from bts_auto.data.splits import Split, load_or_make_splits

    if fold == "all":
        return [("all", Split(train=tuple(cases), validation=()))]
    splits = load_or_make_splits(place.raw, place.preprocessed, cases, observer)
    if fold == "cv":
        return list(enumerate(splits))
    if not fold.isdigit() or int(fold) >= len(splits):
        known = ", ".join(map(str, range(len(splits))))
        raise DataError(f"there is no fold '{fold}'", where=place.name, mend=f"folds are {known}, 'all' and 'cv'")
    return [(int(fold), splits[int(fold)])]


def _store(place: Place, made: Plan, configuration: str) -> CaseStore:
    from bts_auto.preprocess.dataset import store_folder
    from bts_auto.preprocess.store import CaseStore

    store = CaseStore(store_folder(place.preprocessed, made, configuration))
    if not store.cases():
        raise DataError(
            f"no case is preprocessed for {configuration}",
            where=place.name,
            mend=f"run bts_preprocess -d {place.name} -c {configuration}",
        )
    return store


def train(
    configuration: str,
    fold: str | int,
    *,
    dataset: str | int | None = None,
    workspace: Path | None = None,
    recipe: str | Path | None = None,
    settings: Sequence[str] = (),
    validate_only: bool = False,
    observer: Observer = SILENT,
    **options: Any,
) -> Outcome:
    """Train a configuration on one fold, on all cases (``"all"``) or on every fold in turn (``"cv"``).

    Parameters
    ----------
    configuration : str
        A configuration of the plan: ``3d_fullres``.
    fold : str or int
        A fold's number, ``"all"`` or ``"cv"``.
    recipe : str or Path, optional
        A recipe's name or file, laid over the plan.
    settings : sequence of str
        Changes to the configuration, ``"training.epochs=50"``.
    validate_only : bool
        Only validate what is trained.
    **options
        Passed on to :func:`bts_auto.train.trainer.train_fold`: epochs, iterations, budget, device, seed, pretrained,
        restart, workers.
    """
    from bts_auto.model.layout import fold_folder
    from bts_auto.plan.settings import apply_settings
    from bts_auto.train.trainer import train_fold

    place = locate(dataset, workspace, observer)
    made = apply_settings(place.plan(recipe), settings, configuration)
    made.configuration(configuration)
    store = _store(place, made, configuration)
    chosen = _splits(place, sorted(store.cases()), str(fold), observer)
    results: dict[str, Any] = {}
    failures: list[CaseFailure] = []
    lines: list[str] = []
    for name, split in chosen:
        folder = fold_folder(place.results, made.recipe, configuration, name)
        done: TrainingResult | None = None
        scores: Scores | None = None
        try:
            if validate_only:
                scores = _validate(place, folder, split, store, options.get("device", "auto"), observer)
            else:
                common: dict[str, Any] = {"store": store, "split": split, "folder": folder, "raw": place.dataset()}
                common |= {"labels": made.label_set(), "observer": observer}
                done = train_fold(made, configuration, name, **common, **options)
                scores = done.scores
        except BtsError as error:
            if len(chosen) == 1:
                raise
            failures.append(CaseFailure(f"fold {name}", str(error)))
            continue
        failures.extend(scores.failures if scores is not None else ())
        results[str(name)] = _as_json(folder, scores, done)
        lines.extend(_lines(name, folder, scores))
    data = {"dataset": place.name, "configuration": configuration, "recipe": made.recipe, "folds": results}
    return Outcome(len(results), merged(failures), data, tuple(lines))


def _validate(place: Place, folder: Path, split: Split, store: CaseStore, device: str, observer: Observer) -> Scores:
    from bts_auto.model.fold import TrainedFold
    from bts_auto.train.validate import validate_fold

    references = place.dataset().training_cases()
    return validate_fold(
        TrainedFold(folder), split.validation, store=store, references=references, device=device, observer=observer
    )


def _as_json(folder: Path, scores: Scores | None, done: TrainingResult | None) -> dict[str, Any]:
    record: dict[str, Any] = {"folder": str(folder)}
    if done is not None:
        record |= {
            "steps": done.steps,
            "epochs": done.epochs,
            "seconds": done.seconds,
            "was_finished": done.already_finished,
        }
    if scores is not None:
        content = scores.to_json()["summary"]
        record["dice"] = {region: per["dice"]["mean"] for region, per in content.items()}
    return record


def _lines(name: int | str, folder: Path, scores: Scores | None) -> list[str]:
    lines = [f"fold {name}: {folder}"]
    if scores is not None and scores.cases:
        cases = f"{len(scores.cases)} held-out case" + ("s" if len(scores.cases) > 1 else "")
        means = ", ".join(f"{region} {scores.mean('dice', [region]):.3f}" for region in scores.regions)
        lines.append(f"fold {name}: Dice on {cases}: {means}")
    return lines

"""Train one fold: the public face of this room.

torch is loaded after the question whether there is anything to do, so that a finished fold says so at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bts_auto import registry
from bts_auto.data.case_table import case_weights
from bts_auto.data.labels import Labels
from bts_auto.data.partial import counts_in
from bts_auto.data.splits import Split
from bts_auto.errors import CaseFailure, DataError, ModelError, PlanError
from bts_auto.events import SILENT, Observer
from bts_auto.files import hash_json
from bts_auto.plan.schema import Plan
from bts_auto.preprocess.dataset import unlabelled_folder
from bts_auto.preprocess.masks import MaskStore
from bts_auto.preprocess.store import CaseStore
from bts_auto.train import run as runs
from bts_auto.train.job import Fold
from bts_auto.train.lock import sole_process

if TYPE_CHECKING:
    from bts_auto.data.raw import RawDataset
    from bts_auto.evaluate.scores import Scores
    from bts_auto.train.distributed import Crew


@dataclass(frozen=True)
class TrainingResult:
    """What came of a training.

    Attributes
    ----------
    folder : Path
        The trained fold.
    steps, epochs : int
    seconds : float
        Time spent, over all parts of an interrupted run, without the final validation.
    scores : Scores or None
        Of the held-out cases as whole volumes; None when none are held out.
    failures : tuple of CaseFailure
        Held-out cases that could not be scored.
    already_finished : bool
        Whether there was nothing left to do.
    """

    folder: Path
    steps: int
    epochs: int
    seconds: float
    scores: Scores | None = None
    failures: tuple[CaseFailure, ...] = ()
    already_finished: bool = False


def train_fold(
    plan: Plan,
    config_name: str,
    fold: int | str,
    *,
    store: CaseStore,
    split: Split | None,
    folder: Path,
    labels: Labels,
    raw: RawDataset | None = None,
    previous: MaskStore | None = None,
    epochs: int | None = None,
    iterations: int | None = None,
    until_plateau: int | None = None,
    budget: float | None = None,
    lengthen: bool = False,
    device: str = "auto",
    seed: int | None = None,
    pretrained: Path | None = None,
    restart: bool = False,
    workers: int | None = None,
    validate: bool = True,
    save_every: float = 60.0,
    loggers: Sequence[str] = (),
    step_seconds: float | None = None,
    processes: Crew | None = None,
    observer: Observer = SILENT,
    clock: Callable[[], float] = time.monotonic,
) -> TrainingResult:
    """Train, ship the weights, then validate on whole volumes. Killed at any moment, the same call goes on.

    Parameters
    ----------
    fold : int or "all"
        ``all``: every case of the store trains and nothing is held out; `split` is not looked at.
    folder : Path
        Where the trained fold goes.
    raw : RawDataset, optional
        Where the references of the final validation lie; without it there is none.
    previous : MaskStore, optional
        For a configuration with a previous stage: that stage's mask of every case, made by a fold that held it out.
    epochs, iterations, until_plateau, seed : int, optional
        Instead of the plan's.
    budget : float, optional
        Seconds from this call to its end, final validation included; the learning rate reaches its end within it. What
        earlier parts of the training took counts.
    lengthen : bool
        Whether more steps than the plan's may fill the budget, where the machine turns out faster than foretold.
    pretrained : Path, optional
        A model package, or the folder of a trained fold, whose weights are the start.
    save_every : float
        Seconds between two saved states.
    loggers : sequence of str
        Registered loggers that hear of each epoch, besides the journal.
    step_seconds : float, optional
        What a step takes, where that is known; else a few are timed to say how long the training will take.
    processes : Crew, optional
        Those that train together; this is the first of them. None: this one trains alone.
    clock : callable
        A rising number of seconds.

    Raises
    ------
    PlanError
        When `folder` holds a training with other settings (they are named), or a setting does not fit.
    DataError
        When no preprocessed case is left to train on.
    TrainingInterrupted
        When a signal asked for a stop; the state is saved.
    BtsError
        When the loss stayed NaN or infinite after a retry, or another process trains in `folder`.
    """
    started = clock()
    plan = runs.effective_plan(
        plan, config_name, epochs=epochs, iterations=iterations, seed=seed, until_plateau=until_plateau
    )
    training_cases, validation_cases = _cases(store, fold, split, observer)
    _check_plateau(plan, config_name, validation_cases)
    training_cases = _teaching(store, training_cases, labels, observer)
    made_from = _previous_records(plan, config_name, previous, (*training_cases, *validation_cases))
    if budget is not None and budget <= 0:
        raise PlanError(f"a time budget of {budget} s leaves no time to train")
    settings = runs.settings_of(
        plan, config_name, fold, training_cases, validation_cases, budget=budget, pretrained=pretrained
    )
    if made_from is not None:
        settings["previous_masks"] = made_from
    weights = _weights(plan, config_name, raw, training_cases)
    if weights is not None:
        settings["weights_of_cases"] = list(weights)
    unlabelled = _unlabelled(plan, config_name, store, observer)
    if unlabelled is not None:
        settings["unlabelled_cases"] = unlabelled.cases()
    must_validate = validate and raw is not None and bool(validation_cases)
    if not restart:
        finished = _finished(folder, runs.Run.find(folder, settings), validate=must_validate)
        if finished is not None:
            observer.note(f"fold {fold} of {config_name} is trained already ({finished.steps} steps)")
            return finished
    if pretrained is not None and not pretrained.exists():
        raise ModelError("no such package or folder of a trained fold", where=pretrained)
    job = Fold(
        plan=plan,
        configuration_name=config_name,
        fold=fold,
        store=store,
        labels=labels,
        training_cases=training_cases,
        validation_cases=validation_cases,
        folder=folder,
        budget=budget,
        pretrained=pretrained,
        device=device,
        workers=workers,
        raw=raw,
        previous=previous if made_from is not None else None,
        loggers=tuple(loggers),
        unlabelled=unlabelled,
        weights=weights,
        step_seconds=step_seconds,
        lengthen=lengthen,
    )
    with sole_process(folder):
        if restart:
            runs.clear(folder)
        from bts_auto.train.distributed import ALONE
        from bts_auto.train.session import train

        return train(
            job,
            runs.Run.find(folder, settings),
            settings,
            validate=validate,
            save_every=save_every,
            processes=processes or ALONE,
            observer=observer,
            clock=clock,
            started=started,
        )


def _cases(
    store: CaseStore, fold: int | str, split: Split | None, observer: Observer
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Training and held-out cases that have been preprocessed."""
    stored = set(store.cases())
    if fold == "all":
        split_cases: tuple[list[str], list[str]] = (sorted(stored), [])
    elif split is None:
        raise PlanError(f"fold {fold} needs a split into training and held-out cases")
    else:
        split_cases = (list(split.train), list(split.validation))
    missing = [case for cases in split_cases for case in cases if case not in stored]
    if missing:
        observer.warn(
            f"{len(missing)} case(s) of the split are not preprocessed and left out: {', '.join(missing[:5])}"
        )
    training, validation = (tuple(case for case in cases if case in stored) for cases in split_cases)
    if not training:
        raise DataError(
            f"no preprocessed case is left to train fold {fold}", where=store.folder, mend="run bts_plan_and_preprocess"
        )
    return training, validation


def _teaching(store: CaseStore, cases: tuple[str, ...], labels: Labels, observer: Observer) -> tuple[str, ...]:
    """The cases whose annotation tells something of what is trained; edema alone says nothing of WT, TC and ET."""
    annotated = {case: names for case in cases if (names := store.open(case).annotated_labels) is not None}
    useless = [case for case, names in annotated.items() if len(set(counts_in(labels, names))) < 2]
    if useless:
        observer.warn(
            f"{len(useless)} case(s) are left out, annotated for none of {', '.join(labels.foreground)}: "
            f"{', '.join(useless[:5])}"
        )
    taught = tuple(case for case in cases if case not in useless)
    if not taught:
        raise DataError("no case is annotated for what is to be trained", where=store.folder)
    return taught


def _weights(
    plan: Plan, config_name: str, raw: RawDataset | None, training_cases: Sequence[str]
) -> tuple[float, ...] | None:
    """How often each training case is drawn, where the plan names a column for it."""
    column = plan.configuration(config_name).training.case_weights
    if column is None:
        return None
    if raw is None:
        raise PlanError("cases.csv stands in the raw dataset, which is not there", where="training.case_weights")
    return case_weights(raw.folder, column, training_cases)


def _unlabelled(plan: Plan, config_name: str, store: CaseStore, observer: Observer) -> CaseStore | None:
    """Cases without annotation, where the objective learns from such and there are any."""
    objective = plan.configuration(config_name).training.objective
    if not registry.options("objective", objective.name, objective.options).takes_unlabelled:
        return None
    found = CaseStore(unlabelled_folder(store.folder))
    if found.cases():
        return found
    observer.note("no preprocessed case of imagesUn: what needs no annotation is learnt from the training cases alone")
    return None


def _check_plateau(plan: Plan, config_name: str, validation_cases: Sequence[str]) -> None:
    training = plan.configuration(config_name).training
    if training.until_plateau is not None and not (validation_cases and training.validation_iterations):
        raise PlanError(
            "a plateau is seen on held-out patches, and there are none",
            where="training.until_plateau",
            mend="give --epochs or --budget instead",
        )


def _previous_records(plan: Plan, config_name: str, previous: MaskStore | None, cases: Sequence[str]) -> str | None:
    """Hash of what the previous stage's masks were made from; None where the configuration has no such stage."""
    stage = plan.configuration(config_name).previous_stage
    if stage is None:
        return None
    missing = [case for case in cases if previous is None or previous.record(case) is None]
    if previous is None or missing:
        raise DataError(
            f"{config_name} needs the masks of {stage}; there is none of {', '.join(missing[:5])}",
            mend=f"train {stage} first",
        )
    return hash_json({case: previous.record(case) for case in sorted(cases)})


def _finished(folder: Path, run: runs.Run | None, *, validate: bool) -> TrainingResult | None:
    """The result of a run that has nothing left to do."""
    if run is None or run.finished is None or not (folder / "checkpoint.safetensors").exists():
        return None
    scores: Any = None
    path = folder / "validation" / "scores.json"
    if path.exists():
        from bts_auto.evaluate.scores import Scores

        scores = Scores.load(path)
    elif validate:
        return None
    failures = tuple(scores.failures) if scores is not None else ()
    return TrainingResult(folder, **run.finished, scores=scores, failures=failures, already_finished=True)

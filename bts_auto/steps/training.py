"""Train folds and validate them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bts_auto import machine
from bts_auto.errors import BtsError, CaseFailure, PlanError
from bts_auto.events import SILENT, Observer
from bts_auto.steps.cascade import previous_masks, stages_before
from bts_auto.steps.folds import FoldDone, FoldFailed, TrainFolds
from bts_auto.steps.place import Outcome, counted, locate, merged
from bts_auto.steps.stage import Stage

if TYPE_CHECKING:
    from bts_auto.evaluate.scores import Scores
    from bts_auto.execute.contract import Executor
    from bts_auto.model.layout import FoldName
    from bts_auto.plan.schema import Plan
    from bts_auto.train.trainer import TrainingResult

# What also holds for the folds of earlier stages that a command has to train first.
_FOR_EVERY_STAGE = ("epochs", "iterations", "until_plateau", "device", "seed", "workers", "loggers", "processes")


def train(
    configuration: str,
    fold: str | int,
    *,
    dataset: str | int | None = None,
    workspace: Path | None = None,
    recipe: str | Path | None = None,
    settings: Sequence[str] = (),
    budget: float | None = None,
    validate_only: bool = False,
    executor: str | None = None,
    scheduler: str | None = None,
    observer: Observer = SILENT,
    **options: Any,
) -> Outcome:
    """Train a configuration on one fold, on all cases (``"all"``) or on every fold in turn (``"cv"``).

    The second stage of a cascade trains with masks of the first that come from folds which held each case out: folds
    of the first stage that are not trained are trained before, with the same epochs, iterations, seed and device, and
    with those of the settings that concern the training.

    Parameters
    ----------
    configuration : str
        A configuration of the plan: ``3d_fullres``.
    fold : str or int
        A fold's number, ``"all"`` or ``"cv"``.
    recipe : str or Path, optional
        A recipe's name or file, laid over the plan.
    settings : sequence of str
        Changes to the plan, ``"training.epochs=50"``; see :func:`bts_auto.plan.settings.apply_settings`.
    budget : float, optional
        Seconds for everything that this call does; several trainings get equal parts.
    validate_only : bool
        Only validate what is trained.
    executor : str, optional
        What spreads the folds: ``serial`` (one after another), ``local`` (one on each device) or ``dask``. Workers see
        the same files under the same names; each tells its journal what happens, and this call what came of it.
    scheduler : str, optional
        Address of the Dask cluster's scheduler.
    **options
        Passed on to :func:`bts_auto.train.trainer.train_fold`: epochs, iterations, until_plateau, device, seed,
        pretrained, restart, workers, loggers.

    Where torchrun has started several processes, this is called in the first of them, and
    :func:`bts_auto.train.follower.train_along` in the others.
    """
    from bts_auto.plan.settings import apply_settings
    from bts_auto.steps.workers import choose_executor
    from bts_auto.train.launch import all_processes

    machine.keep_freed_memory()
    device = options.get("device", "auto")
    with all_processes() as processes:
        if processes is not None and (executor or scheduler):
            raise PlanError("several processes of torchrun train one fold together; --executor gives each fold one")
        place = locate(dataset, workspace, observer)
        planned = place.plan(recipe)
        plan = apply_settings(planned, settings, configuration)
        stage = Stage.open(place, plan, configuration, observer)
        options = {
            **options,
            "processes": processes,
            "lengthen": _length_is_open(planned, plan, configuration, options),
        }
        spread = choose_executor(executor, scheduler, device, all_gpus=executor == "local")
        return _train_folds(stage, str(fold), spread, budget, validate_only, options)


def _length_is_open(planned: Plan, plan: Plan, configuration: str, options: dict[str, Any]) -> bool:
    """Whether the number of steps only foretells what a budget leaves time for: nobody has asked for it."""
    asked = any(options.get(name) is not None for name in ("epochs", "iterations"))
    before, now = (one.configuration(configuration).training for one in (planned, plan))
    changed = (before.epochs, before.iterations) != (now.epochs, now.iterations)
    return planned.budget_seconds is not None and not asked and not changed


def _train_folds(
    stage: Stage,
    fold: str,
    executor: Executor,
    budget: float | None,
    validate_only: bool,
    options: dict[str, Any],
) -> Outcome:
    """Train what is named, and before that what it needs of earlier stages."""
    from bts_auto.train.run import shares_of_budget

    chosen = stage.named(fold)
    earlier = [before.folder(number) for before, number in stages_before(stage)]
    named = [stage.folder(name) for name, _ in chosen]
    shares = shares_of_budget(budget, [*earlier, *named], anew=named if options.get("restart") else ())
    shared = {key: options[key] for key in _FOR_EVERY_STAGE if key in options}
    if "device" in shared:  # of several, which are for several folds, the earlier stages take the first
        shared["device"] = shared["device"].partition(",")[0]
    how = None if validate_only else {folder: shared | {"budget": shares[folder]} for folder in earlier}
    cases = stage.prepared({case for _, split in chosen for case in (*split.train, *split.validation)})
    task = TrainFolds(
        stage,
        previous_masks(stage, cases, how),
        options,
        {name: shares[stage.folder(name)] for name, _ in chosen},
        validate_only,
        one=len(chosen) == 1,
    )
    trained = _Trained(stage)
    with executor:
        if waiting := executor.waits_for():
            stage.observer.note(waiting)
        ended: dict[FoldName, FoldDone | CaseFailure] = {}
        for (name, _), came in executor.run(task, chosen):
            if isinstance(came, FoldDone):
                ended[name] = came
                continue
            failure = CaseFailure(f"fold {name}", came.reason if isinstance(came, FoldFailed) else str(came))
            stage.observer.failed(failure)
            ended[name] = failure
    for name, _ in chosen:
        trained.add(name, ended[name])
    return trained.outcome(cross_validated=fold == "cv")


def stop_training(
    configuration: str,
    fold: str | int,
    *,
    dataset: str | int | None = None,
    workspace: Path | None = None,
    recipe: str | Path | None = None,
    observer: Observer = SILENT,
) -> Outcome:
    """Let a training that runs in another process come to its end: its learning rate anneals, then it validates.

    Raises
    ------
    BtsError
        When none of the folds is being trained.
    """
    from bts_auto.train.lock import is_held
    from bts_auto.train.run import STOP_FILE

    place = locate(dataset, workspace, observer)
    stage = Stage.open(place, place.plan(recipe), configuration, observer)
    running = [folder for folder in (stage.folder(name) for name, _ in stage.named(str(fold))) if is_held(folder)]
    if not running:
        raise BtsError(f"no training of {configuration}, fold {fold}, is running here", where=place.name)
    for folder in running:
        (folder / STOP_FILE).touch()
    lines = tuple(f"told to come to its end: {folder}" for folder in running)
    return Outcome(len(running), data={"told": [str(folder) for folder in running]}, lines=lines)


class _Trained:
    """Collects what came of the folds of a stage."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._folds: dict[str, Any] = {}
        self._lines: list[str] = []
        self._scores: list[Scores] = []
        self.failures: list[CaseFailure] = []

    def add(self, name: FoldName, came: FoldDone | CaseFailure) -> None:
        """Count a fold that is trained, or why it is not."""
        if isinstance(came, CaseFailure):
            self.failures.append(came)
            return
        folder, scores, done = self._stage.folder(name), came.scores, came.training
        if scores is not None:
            self.failures.extend(scores.failures)
            self._scores.append(scores)
        self._folds[str(name)] = _as_json(folder, scores, done)
        self._lines.append(f"fold {name}: {folder}")
        if scores is not None and scores.cases:
            self._lines.append(f"fold {name}: {_dice_line(scores)}")

    def outcome(self, *, cross_validated: bool) -> Outcome:
        """All of it, with the mean over the held-out cases of all folds where there are several."""
        stage = self._stage
        data = {
            "dataset": stage.place.name,
            "configuration": stage.configuration,
            "recipe": stage.plan.recipe,
            "folds": self._folds,
        }
        lines = list(self._lines)
        if cross_validated and any(scores.cases for scores in self._scores):
            pooled = _pooled(self._scores)
            data["dice"] = {region: pooled.mean("dice", [region]) for region in pooled.regions}
            lines.append(f"{stage.configuration}, {counted(len(self._scores), 'fold')}: {_dice_line(pooled)}")
        return Outcome(len(self._folds), merged(self.failures), data, tuple(lines))


def _pooled(several: Sequence[Scores]) -> Scores:
    """The scores of all cases together; a case that several folds have held out counts once."""
    from bts_auto.evaluate.scores import Scores

    return Scores.of({case: scored for scores in several for case, scored in scores.cases.items()})


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


def _dice_line(scores: Scores) -> str:
    cases = f"{len(scores.cases)} held-out case" + ("s" if len(scores.cases) > 1 else "")
    means = ", ".join(f"{region} {scores.mean('dice', [region]):.3f}" for region in scores.regions)
    return f"Dice on {cases}: {means}"

"""Masks for new cases: which model is meant, and a folder of cases through it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bts_auto.errors import ModelError, PlanError
from bts_auto.events import SILENT, Observer
from bts_auto.files import write_json
from bts_auto.model.layout import DEFAULT_RECIPE
from bts_auto.steps.place import Outcome, counted

if TYPE_CHECKING:
    from bts_auto.ensemble.best import Best
    from bts_auto.model.fold import TrainedFold
    from bts_auto.plan.schema import Plan
    from bts_auto.predict.predictor import CasePredictor
    from bts_auto.predict.segmenter import Segmenter


def predict(
    input: Path,
    output: Path,
    *,
    dataset: str | int | None = None,
    workspace: Path | None = None,
    configuration: str | None = None,
    folds: Sequence[str | int] | None = None,
    recipe: str | None = None,
    model: Path | None = None,
    tta: bool | Sequence[int] = True,
    step_size: float | None = None,
    tile: Any = None,
    fast: bool = False,
    engine: str = "auto",
    precision: str = "auto",
    device: str = "auto",
    save_probabilities: bool = False,
    save_uncertainty: bool = False,
    preview: bool = False,
    overwrite: bool = False,
    nan_to_zero: bool = False,
    mc_dropout: int = 0,
    seed: int = 0,
    part: tuple[int, int] | None = None,
    watch: bool = False,
    executor: str | None = None,
    scheduler: str | None = None,
    observer: Observer = SILENT,
) -> Outcome:
    """Segment every case of a folder.

    Parameters
    ----------
    input, output : Path
        Folder with ``CASE_0000.nii.gz`` ...; folder for ``CASE.nii.gz``.
    configuration, folds, recipe : optional
        Which trained folds; default: what `choose` remembered, else the best that is trained.
    model : Path, optional
        A model package or the folder of one trained fold, in place of a dataset's results; of a package too, folds
        may be named.
    tta, step_size, tile, fast, engine, precision, device, mc_dropout, seed
        See :class:`bts_auto.predict.predictor.CasePredictor`.
    save_probabilities, save_uncertainty : bool
        Also write images of probabilities, or of entropy and mutual information.
    preview : bool
        Also draw each case with the outlines of its mask, ``previews/CASE.png``.
    overwrite : bool
        Do finished cases again.
    part : tuple of int, optional
        ``(i, n)``: only the i-th of n parts of the cases, counted from 1.
    watch : bool
        Do not return: segment what comes into `input`, until interrupted (:mod:`bts_auto.predict.watch`).
    executor : {"serial", "local", "dask"}, optional
        Where cases are worked on: in this process, in one process for each device, on a Dask cluster. Default: local
        where `device` names several or several GPUs are there, dask where `scheduler` is given, else serial.
    scheduler : str, optional
        Address of the Dask cluster's scheduler.
    """
    from bts_auto.data.incoming import several_cases
    from bts_auto.predict.cases import CaseTask
    from bts_auto.predict.folder import spread_folder
    from bts_auto.predict.output import Extras
    from bts_auto.predict.watch import watch_folder
    from bts_auto.steps.workers import LoadModel, choose_executor, find_place

    how = {"tta": tta, "step_size": step_size, "tile": tile, "fast": fast, "engine": engine, "precision": precision}
    how |= {"member_entropy": save_uncertainty, "mc_dropout": mc_dropout, "seed": seed}
    place = find_place(model, dataset, workspace, observer)
    load = LoadModel(model, place.results if place else None, recipe, configuration, folds, how, observer)
    asked = {name: value for name, value in (("engine", engine), ("precision", precision)) if value != "auto"}
    task = CaseTask(load, overwrite=overwrite, nan_to_zero=nan_to_zero, asked=asked)
    extras = Extras(probabilities=save_probabilities, uncertainty=save_uncertainty)
    workers = choose_executor(executor, scheduler, device, all_gpus=watch or several_cases(input))
    if watch:
        if preview or part is not None:
            raise PlanError("a watched folder has no parts and no previews", mend="leave out --part and --preview")
        watch_folder(task, input, output, extras=extras, executor=workers, observer=observer)
    result = spread_folder(task, input, output, extras=extras, part=part, executor=workers, observer=observer)
    if place is not None:
        place.remember_predictions(output)
    if preview:
        _draw(result.plan, input, output, result.done, nan_to_zero, observer)
    line = f"{counted(len(result.done), 'mask')}: {output}"
    return Outcome(
        len(result.done),
        result.failures,
        {"output": str(output), "cases": list(result.done)},
        (line,),
    )


def _draw(plan: Plan, input: Path, output: Path, cases: Sequence[str], nan_to_zero: bool, observer: Observer) -> None:
    """One picture for each finished case. A mask without its picture is still a mask: the case gets a warning."""
    from bts_auto.data.readers import read_mask, read_volume
    from bts_auto.predict.folder import find_inputs
    from bts_auto.predict.output import CaseOutput, Extras
    from bts_auto.report.overlay import write_overlay

    labels = plan.label_set()
    found = find_inputs(input, plan)[0]
    for case in observer.track(cases, "Drawing"):
        try:
            files = CaseOutput(output, found[case], {}, Extras())
            volume = read_volume(found[case].images, plan.channel_names, nan_to_zero=nan_to_zero)
            mask = labels.from_submission(read_mask(files.mask)[0])
            write_overlay(files.picture, volume, {"prediction": mask}, labels)
        except Exception as error:
            observer.warn(f"{case}: no picture ({type(error).__name__}: {' '.join(str(error).split())})")


def predictor_from_file(
    model: Path,
    recipe: str | None,
    configuration: str | None,
    folds: Sequence[str | int] | None,
    how: dict[str, Any],
    observer: Observer,
) -> Segmenter:
    """The predictor of a package, of its best or what is named; or of a fold's folder, which leaves no choice."""
    from bts_auto.ensemble.best import BEST_FILE
    from bts_auto.model.fold import TrainedFold
    from bts_auto.model.layout import CONVERTED
    from bts_auto.model.package import install_package, package_documents

    if model.is_dir():  # a fold among its dataset's results, where an earlier stage lies too
        if not recipe is configuration is folds is None:
            raise PlanError(
                "is the folder of one fold, which leaves no choice", where=model, mend="omit -f, -c, --recipe"
            )
        return case_predictor(model.absolute().parent.parent, [TrainedFold(model)], how, observer)
    with tempfile.TemporaryDirectory(prefix="bts_model_") as folder:  # a package unpacked is a dataset's results
        found = install_package(model, folder)
        documents = package_documents(model)
        if BEST_FILE in documents:
            write_json(Path(folder) / BEST_FILE, documents[BEST_FILE])
        beside = model.with_name(f"{model.name}.{CONVERTED}")
        kept = partial(TrainedFold.converted_file, folder=beside)
        try:
            return predictor_from_results(
                Path(folder), recipe, configuration, folds, {**how, "converted": kept}, observer
            )
        except ModelError as error:
            if not str(error.where).startswith(folder):
                raise
            there = ", ".join(f"{one.plan.recipe} {one.configuration_name} fold {one.fold}" for one in found)
            raise ModelError(error.what, where=model, mend=f"it holds {there}") from None


def predictor_from_results(
    results: Path,
    recipe: str | None,
    configuration: str | None,
    folds: Sequence[str | int] | None,
    how: dict[str, Any],
    observer: Observer,
) -> Any:
    from bts_auto.ensemble.best import Best
    from bts_auto.model.fold import find_folds

    if configuration is None and recipe is None and folds is None:
        best = Best.load(results)
        if best is not None:
            return joint_predictor(results, best, how, observer)
    found_recipe, found = trained(results, recipe, configuration)
    members = find_folds(results, found_recipe, found, fold_names(folds))
    names = ", ".join(str(member.fold) for member in members)
    observer.note(f"model: {found_recipe} {found}, fold {names}")
    return case_predictor(results, members, how, observer)


def case_predictor(results: Path, members: list[TrainedFold], how: dict[str, Any], observer: Observer) -> CasePredictor:
    """A predictor of trained folds, with the predictors of the stages before it."""
    from bts_auto.model.fold import TrainedFold, find_folds
    from bts_auto.predict.predictor import CasePredictor
    from bts_auto.predict.settings import check_for

    check_for(members[0].configuration, **how)
    stage = members[0].configuration.previous_stage
    previous = None
    if stage is not None:
        # Only its masks are wanted.
        plain = how | {"member_entropy": False, "mc_dropout": 0}
        previous = case_predictor(results, find_folds(results, members[0].plan.recipe, stage), plain, SILENT)
    how = {"converted": TrainedFold.converted_file, **how}
    return CasePredictor(members, previous=previous, observer=observer, **how)


def joint_predictor(results: Path, best: Best, how: dict[str, Any], observer: Observer) -> Segmenter:
    """A predictor of what `choose` remembered."""
    from bts_auto.ensemble.predictor import JointPredictor

    predictors = [case_predictor(results, one.trained(results), how, observer) for one in best.members]
    names = " + ".join(f"{one.recipe} {one.configuration} ({counted(len(one.folds), 'fold')})" for one in best.members)
    rules = ", ".join(rule.name for rule in best.postprocessing)
    observer.note(f"model: {names}, as bts_ensemble chose" + (f"; then {rules}" if rules else ""))
    plain = not best.postprocessing and best.calibration is None and best.agreement is None and best.training is None
    if len(predictors) == 1 and plain:
        return predictors[0]
    return JointPredictor(best, predictors)


def fold_names(folds: Sequence[str | int] | None) -> list[Any] | None:
    """Folds as they are typed, as the numbers that they are (``all`` stays a word)."""
    if folds is None:
        return None
    return [int(fold) if str(fold).isdigit() else fold for fold in folds]


def trained(results: Path, recipe: str | None, configuration: str | None) -> tuple[str, str]:
    """The recipe and configuration that are meant; of several that are trained, the one that validated best."""
    from bts_auto.model.layout import WEIGHTS_FILE, recipe_and_configuration

    weights = results.glob(f"*__*/fold_*/{WEIGHTS_FILE}")
    there = sorted({recipe_and_configuration(path.parent.parent) for path in weights})
    # A member of an ensemble is asked for as ENSEMBLE:MEMBER, and lies under ENSEMBLE.MEMBER.
    wanted = None if recipe is None else recipe.replace(":", ".")
    fitting = [(r, c) for r, c in there if wanted in (None, r) and configuration in (None, c)]
    if not fitting:
        names = ", ".join(f"{r} {c}" for r, c in there) or "nothing"
        mend = f"trained: {names}; train with bts_train"
        if any(r.startswith(f"{recipe}.") for r, _ in there):
            mend = f"its members are: bts_ensemble --recipe {recipe} chooses them together for bts_predict"
        missing = " ".join(filter(None, (recipe, configuration))) or "model"
        raise ModelError(f"no {missing} is trained", where=results, mend=mend)
    dice = _validation_dice(results, fitting)
    return max(fitting, key=lambda one: (dice[one], one[0] == DEFAULT_RECIPE, one[1] == "3d_fullres"))


def _validation_dice(results: Path, candidates: Sequence[tuple[str, str]]) -> dict[tuple[str, str], float]:
    """Mean validation Dice of each over its validated folds and the regions that all of them have; -1 without any."""
    from bts_auto.evaluate.scores import Scores
    from bts_auto.model.layout import configuration_folder

    scores = {
        one: [Scores.load(path) for path in configuration_folder(results, *one).glob("fold_*/validation/scores.json")]
        for one in candidates
    }
    every = [set(fold.regions) for folds in scores.values() for fold in folds]
    # What was trained on regions has no scores of the labels that they hold.
    shared = sorted(set.intersection(*every)) if every else []
    means = {one: [fold.mean(regions=shared or None) for fold in folds] for one, folds in scores.items()}
    return {one: sum(found) / len(found) if found else -1.0 for one, found in means.items()}

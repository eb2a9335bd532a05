"""Trained models handed on: packages out and in, nnU-Net models in and out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bts_auto.errors import BtsError, DataError, ModelError
from bts_auto.events import SILENT, Observer
from bts_auto.files import read_json, write_json
from bts_auto.steps.place import Outcome, counted, locate, locate_for_model
from bts_auto.steps.prediction import fold_names, trained

if TYPE_CHECKING:
    from bts_auto.model.fold import TrainedFold


def export_model(
    output: Path,
    *,
    dataset: str | int | None = None,
    workspace: Path | None = None,
    configuration: str | None = None,
    folds: Sequence[str | int] | None = None,
    recipe: str | None = None,
    precision: Literal["fp32", "fp16"] = "fp32",
    nnunet: bool = False,
    observer: Observer = SILENT,
) -> Outcome:
    """Write trained folds into one model package, or into a model folder that nnU-Net loads.

    Parameters
    ----------
    output : Path
        The package (a file) or, with `nnunet`, the model folder.
    configuration, folds, recipe : optional
        Which; default: what `choose` remembered (its choice travels along), else the best that is trained.
    precision : {"fp32", "fp16"}
        Of the stored weights; fp16 halves the file.
    """
    from bts_auto.ensemble.best import BEST_FILE, Best
    from bts_auto.model.fold import find_folds
    from bts_auto.model.nnunet import export_nnunet
    from bts_auto.model.package import export_package

    place = locate(dataset, workspace, observer)
    best = Best.load(place.results) if configuration is None and recipe is None and folds is None else None
    if best is not None and not nnunet:
        members = [fold for one in best.members for fold in one.trained(place.results)]
        path = export_package(
            _with_earlier_stages(place.results, members),
            output,
            precision=precision,
            documents={BEST_FILE: best.model_dump(mode="json")},
        )
    else:
        members = find_folds(place.results, *trained(place.results, recipe, configuration), fold_names(folds))
        if nnunet:
            path = export_nnunet(members, output, observer=observer)
        else:
            path = export_package(_with_earlier_stages(place.results, members), output, precision=precision)
    names = [f"{fold.plan.recipe} {fold.configuration_name} fold {fold.fold}" for fold in members]
    return Outcome(len(members), (), {"model": str(path), "folds": names}, (*names, f"model: {path}"))


def _with_earlier_stages(results: Path, members: list[TrainedFold]) -> list[TrainedFold]:
    """The folds, and those of the stages that they need."""
    from bts_auto.model.fold import find_folds

    needed = {(fold.plan.recipe, fold.configuration.previous_stage) for fold in members}
    there = {(fold.plan.recipe, fold.configuration_name) for fold in members}
    earlier = [
        fold
        for recipe, stage in sorted((recipe, stage) for recipe, stage in needed if stage is not None)
        if (recipe, stage) not in there
        for fold in find_folds(results, recipe, stage)
    ]
    return members + (_with_earlier_stages(results, earlier) if earlier else [])


def install_model(
    package: Path, *, dataset: str | int | None = None, workspace: Path | None = None, observer: Observer = SILENT
) -> Outcome:
    """Unpack a model package into the results of a dataset, with the choice that it holds where none is there yet."""
    from bts_auto.ensemble.best import BEST_FILE
    from bts_auto.model.package import install_package, open_package, package_documents

    place = locate_for_model(dataset, workspace, lambda: open_package(package)[0].plan.dataset_name, observer)
    chosen = package_documents(package).get(BEST_FILE)
    folds = install_package(package, place.results)
    lines = tuple(f"installed: {fold.folder}" for fold in folds)
    best = place.results / BEST_FILE
    if chosen is not None and not best.exists():
        write_json(best, chosen)
        lines += (f"and how they are combined: {best}",)
    elif chosen is not None and read_json(best) != chosen:
        observer.warn(f"{best} stays: the package combines its folds in another way; bts_predict -m {package} does so")
    return Outcome(len(folds), (), {"folds": [str(fold.folder) for fold in folds]}, lines)


def import_nnunet_model(
    source: Path,
    *,
    dataset: str | int | None = None,
    workspace: Path | None = None,
    output: Path | None = None,
    images: Path | None = None,
    recipe: str = "nnunet",
    observer: Observer = SILENT,
) -> Outcome:
    """Take a trained nnU-Net v2 model into the results of a dataset, or make a package of it.

    Parameters
    ----------
    source : Path
        A model folder or a zip of it.
    output : Path, optional
        A package to be written; the results of a dataset are not touched then.
    images : Path, optional
        Scans like those that the model was trained on. Tiles of the first of them show between which values its layers
        work, without which it cannot compute in int8. None: the training images of the dataset, where they are there.
    recipe : str
        Under which name it is kept.

    Raises
    ------
    DataError
        When there is no such folder of scans; nothing was taken in then.
    """
    import tempfile

    from bts_auto.model.nnunet import import_nnunet
    from bts_auto.model.package import export_package

    if images is not None and not images.is_dir():
        raise DataError("is not a folder of scans", where=images, mend="check --images")
    if output is None:

        def own_name() -> str:
            with tempfile.TemporaryDirectory(prefix="bts_import_") as folder:
                return import_nnunet(source, Path(folder), recipe=recipe)[0].plan.dataset_name

        place = locate_for_model(dataset, workspace, own_name, observer)
        folds = import_nnunet(source, place.results, recipe=recipe, observer=observer)
        training = place.raw / "imagesTr"
        folds = _with_ranges(folds, images or (training if training.is_dir() else None), observer)
        where = [str(fold.folder) for fold in folds]
        return Outcome(len(folds), (), {"folds": where}, tuple(f"imported: {path}" for path in where))
    with tempfile.TemporaryDirectory(prefix="bts_import_") as folder:
        folds = import_nnunet(source, Path(folder), recipe=recipe, observer=observer)
        if not folds:
            raise ModelError("holds no trained fold", where=source)
        path = export_package(_with_ranges(folds, images, observer), output)
    return Outcome(len(folds), (), {"model": str(path)}, (f"{counted(len(folds), 'fold')}: {path}",))


def _with_ranges(folds: list[TrainedFold], images: Path | None, observer: Observer) -> list[TrainedFold]:
    """The folds with the ranges of their layers on the first scans of a folder; as they are where that cannot be."""
    from bts_auto.data.incoming import find_cases
    from bts_auto.data.readers import read_volume
    from bts_auto.predict.ranges import CASES, measure_ranges
    from bts_auto.preprocess.prepare import prepare

    if images is None or not folds:
        return folds
    plan, configuration = folds[0].plan, folds[0].configuration
    if configuration.previous_stage is not None:
        observer.warn(f"a stage after '{configuration.previous_stage}' goes without int8: its ranges are not measured")
        return folds
    try:
        cases, _ = find_cases(images, len(plan.channel_names), plan.file_ending)
        some = [cases[name] for name in sorted(cases)[:CASES]]
        prepared = [prepare(read_volume(one.images, plan.channel_names), plan, configuration).image for one in some]
    except BtsError as error:
        observer.warn(f"the layers' ranges, for int8, were not measured: {error}")
        return folds
    observer.note(f"ranges of the layers, for int8, from {', '.join(one.case for one in some)}")
    return [fold.with_ranges(measure_ranges(fold.network(), prepared, configuration)) for fold in folds]

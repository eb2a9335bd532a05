"""Trained models of nnU-Net v2, in and out.

This is the one place where a pickle is opened: nnU-Net's checkpoints are. Torch's restricted reader does it, which
executes nothing; beyond tensors and plain containers it may make only the few numpy values that such checkpoints hold.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bts_auto.data.labels import Labels
from bts_auto.errors import BtsError, ModelError
from bts_auto.events import SILENT, Observer
from bts_auto.files import atomic_path, read_json, write_json
from bts_auto.model.archive import checked_archive, unpack
from bts_auto.model.build import network_with_weights
from bts_auto.model.fold import FoldRecord, TrainedFold, write_fold
from bts_auto.model.layout import WEIGHTS_FILE, FoldName, fold_folder
from bts_auto.model.nnunet_plan import dataset_to_nnunet, plan_from_nnunet, plan_to_nnunet
from bts_auto.model.nnunet_weights import weights_from_nnunet, weights_to_nnunet
from bts_auto.model.weights import as_precision

PLANS, DATASET, CHECKPOINT = "plans.json", "dataset.json", "checkpoint_final.pth"
TRAINER = "nnUNetTrainer"
_NUMPY_KINDS = ("bool", "int32", "int64", "float16", "float32", "float64")


@dataclass(frozen=True)
class Checkpoint:
    """What we take from a checkpoint of nnU-Net."""

    configuration: str
    trainer: str
    epoch: int
    mirror_axes: tuple[int, ...]
    weights: dict[str, Tensor]


def import_nnunet(
    source: Path | str,
    results: Path | str,
    *,
    recipe: str = "nnunet",
    folds: Sequence[FoldName] | None = None,
    checkpoint: str = CHECKPOINT,
    observer: Observer = SILENT,
) -> list[TrainedFold]:
    """Make trained folds of ours from a trained model of nnU-Net v2.

    Parameters
    ----------
    source : Path
        A model folder (``nnUNetTrainer__nnUNetPlans__3d_fullres``), a folder that holds such ones, or a zip archive.
    results : Path
        ``results/DatasetXXX_Name``; the folds are written to ``<recipe>__<configuration>/fold_<fold>`` in it.
    recipe : str
        Under which name they are kept.
    folds : sequence, optional
        Which folds; None: all that are there.
    checkpoint : str
        Name of the checkpoint's file.
    observer : Observer

    Raises
    ------
    ModelError
        When there is no such model, it is damaged, it would execute something, or it is of a kind that we do not know.
    """
    source, results = Path(source), Path(results)
    with ExitStack() as stack:
        if source.is_file():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bts-import-")))
            _unpack_model(source, folder, checkpoint)
        else:
            folder = source
        models = _model_folders(folder, source)
        jobs = [(model, fold) for model in models for fold in _folds_there(model, checkpoint, folds)]
        if not jobs:
            raise ModelError(f"holds no fold with {checkpoint}", where=source)
        imported: list[TrainedFold] = []
        for model, fold in observer.track(jobs, "importing", unit="fold"):
            imported.append(_import_fold(model, fold, checkpoint, results, recipe, imported))
    return imported


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint of nnU-Net without executing anything.

    Raises
    ------
    ModelError
        When it is missing, truncated, holds anything but known data, or is no checkpoint of nnU-Net v2.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError("no such file", where=path)
    try:
        with torch.serialization.safe_globals(_known_values()):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        first = str(error).strip().splitlines()[0]
        raise ModelError(f"holds something other than weights and plain values ({first})", where=path) from None
    except (RuntimeError, EOFError, OSError, KeyError, ValueError, AttributeError) as error:
        raise ModelError(f"cannot be read as a checkpoint ({str(error).splitlines()[0]})", where=path) from None
    try:
        axes = content.get("inference_allowed_mirroring_axes")
        return Checkpoint(
            configuration=str(content["init_args"]["configuration"]),
            trainer=str(content["trainer_name"]),
            epoch=int(content.get("current_epoch", 0)),
            mirror_axes=tuple(int(axis) for axis in axes or ()),
            weights=dict(content["network_weights"]),
        )
    except (KeyError, TypeError, AttributeError):
        raise ModelError("is no checkpoint of nnU-Net v2", where=path) from None


def _known_values() -> list[Any]:
    """What a checkpoint may make besides tensors: numpy numbers, by numpy's names before and since its version 2."""
    make_scalar = np.float64(0).__reduce__()[0]
    makers: list[Any] = [(make_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    return [*makers, np.dtype, *(type(np.dtype(kind)) for kind in _NUMPY_KINDS)]


def _unpack_model(path: Path, folder: Path, checkpoint: str) -> None:
    """Unpack the plans and checkpoints of an archive, and nothing else."""
    with checked_archive(path) as archive:
        for entry in archive.infolist():
            name = PurePosixPath(entry.filename)
            if name.name in (PLANS, DATASET, checkpoint):
                unpack(archive, entry.filename, folder / name)


def _model_folders(folder: Path, source: Path) -> list[Path]:
    if not folder.is_dir():
        raise ModelError("no such file or folder", where=source)
    found = sorted(path.parent for path in folder.rglob(PLANS) if (path.parent / DATASET).is_file())
    if not found:
        raise ModelError(f"holds no trained model of nnU-Net v2 ({PLANS} beside {DATASET})", where=source)
    return found


def _folds_there(model: Path, checkpoint: str, folds: Sequence[FoldName] | None) -> list[FoldName]:
    names = sorted(path.parent.name.removeprefix("fold_") for path in model.glob(f"fold_*/{checkpoint}"))
    there: list[FoldName] = [
        int(name) if name.isdigit() else "all" for name in names if name.isdigit() or name == "all"
    ]
    if missing := [fold for fold in folds or () if fold not in there]:
        mend = f"it has {', '.join(map(str, there)) or 'none'}"
        raise ModelError(f"fold {missing[0]} has no {checkpoint}", where=model, mend=mend)
    return there if folds is None else list(folds)


def _import_fold(
    model: Path, fold: FoldName, checkpoint: str, results: Path, recipe: str, before: Sequence[TrainedFold]
) -> TrainedFold:
    path = model / f"fold_{fold}" / checkpoint
    content = read_checkpoint(path)
    dataset = read_json(model / DATASET)
    try:
        plan = plan_from_nnunet(
            read_json(model / PLANS),
            dataset,
            recipe=recipe,
            mirror_axes={content.configuration: content.mirror_axes},
            only=content.configuration,
        )
    except KeyError as error:
        raise ModelError(f"{PLANS} or {DATASET} has no {error}", where=model) from None
    except ModelError as error:
        raise ModelError(str(error), where=model) from None
    except BtsError as error:
        raise ModelError(f"its plan does not fit: {error}", where=model) from None
    target = fold_folder(results, recipe, content.configuration, fold)
    if any(other.folder == target for other in before):
        mend = "import their folders one by one, each under a recipe name of its own"
        raise ModelError(f"two models of {content.configuration}, fold {fold}", where=model.parent, mend=mend)
    try:
        weights = as_precision(weights_from_nnunet(content.weights), torch.float32)
        if any(name.endswith(".running_mean") for name in weights):  # its trainer replaced the plan's normalisation
            plan.configurations[content.configuration]["network"]["options"]["norm"] = "batch"
        network_with_weights(plan, content.configuration, weights)
    except ModelError as error:
        raise ModelError(f"{error.what} (trained by {content.trainer})", where=path) from None
    record = FoldRecord(
        configuration=content.configuration, fold=fold, epoch=content.epoch, dataset=dataset, source="nnU-Net v2"
    )
    if (target / WEIGHTS_FILE).exists() and not _same(TrainedFold(target).state(), weights):
        raise ModelError(
            "another trained fold is there", where=target, mend="move it away, or name this one with --recipe"
        )
    return write_fold(target, plan, weights, record)


def _same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def export_nnunet(folds: Sequence[TrainedFold], folder: Path | str, *, observer: Observer = SILENT) -> Path:
    """Write trained folds of one configuration as a model folder of nnU-Net v2.

    ``nnUNetv2_predict_from_modelfolder -m FOLDER`` takes it as it is, and ``nnUNetv2_predict`` below
    ``$nnUNet_results/DatasetXXX_Name`` under the name ``nnUNetTrainer__nnUNetPlans__<configuration>``.

    Parameters
    ----------
    folds : sequence of TrainedFold
    folder : Path
        The model folder to be written.
    observer : Observer
        Hears what nnU-Net will do differently.

    Raises
    ------
    ModelError
        When there is no fold, the folds have different plans, or nnU-Net does not know something in the plan.
    """
    folder = Path(folder)
    if not folds:
        raise ModelError("no trained fold to export", where=folder)
    first = folds[0]
    for fold in folds:
        if fold.configuration_name != first.configuration_name or fold.plan.content_hash() != first.plan.content_hash():
            raise ModelError("has another plan or configuration than the first fold", where=fold)
    if first.plan.orientation == "canonical":
        observer.warn("nnU-Net takes images as they are stored: give it images in LPS orientation")
    plans, dataset = plan_to_nnunet(first.plan), dataset_to_nnunet(first.plan, first.dataset)
    write_json(folder / PLANS, plans)
    write_json(folder / DATASET, dataset)
    for fold in observer.track(folds, "exporting", unit="fold"):
        _write_checkpoint(fold, folder / f"fold_{fold.fold}" / CHECKPOINT, plans, dataset)
    return folder


def _write_checkpoint(fold: TrainedFold, path: Path, plans: Mapping[str, Any], dataset: Mapping[str, Any]) -> None:
    configuration = fold.configuration
    content = {
        "network_weights": weights_to_nnunet(
            _heads_by_label(fold.state(), fold.labels),
            residual=configuration.network.name == "residual_unet",
            dropout=configuration.network_options().dropout > 0,
            strides=configuration.strides,
        ),
        "optimizer_state": None,
        "grad_scaler_state": None,
        "logging": None,
        "_best_ema": None,
        "current_epoch": fold.epoch,
        "init_args": {
            "plans": dict(plans),
            "configuration": fold.configuration_name,
            "fold": fold.fold,
            "dataset_json": dict(dataset),
        },
        "trainer_name": TRAINER,
        "inference_allowed_mirroring_axes": configuration.inference.mirror_axes or None,
    }
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def _heads_by_label(state: dict[str, Tensor], labels: Labels) -> dict[str, Tensor]:
    """The state with the channels of its heads in the order of the labels' values, which is nnU-Net's."""
    if labels.has_regions:
        return state
    order = sorted(range(len(labels.outputs)), key=lambda channel: labels.members()[channel][0])
    return {name: tensor[order] if name.startswith("heads.") else tensor for name, tensor in state.items()}

"""A trained fold on disk: its plan, its weights, and what they belong to."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn

from bts_auto.data.labels import Labels
from bts_auto.documents import Document
from bts_auto.errors import ModelError
from bts_auto.files import hash_file, hash_json
from bts_auto.model.build import network_with_weights
from bts_auto.model.layout import CONVERTED, PLAN_FILE, WEIGHTS_FILE, FoldName, recipe_option
from bts_auto.model.weights import as_precision, load_weights, read_metadata, save_weights
from bts_auto.plan.schema import MeasuredTile, Plan, Ranges, SegmentationConfiguration

MODEL_VERSION = 1


class FoldRecord(Document):
    """What a checkpoint says about itself, in its metadata.

    Attributes
    ----------
    configuration : str
        The plan's configuration that was trained.
    fold : int or "all"
    epoch : int
        Epochs done.
    dataset : dict
        Content of the dataset.json that it was trained on.
    source : str
        Which program trained it.
    """

    version: int = MODEL_VERSION
    configuration: str
    fold: FoldName
    epoch: int = 0
    dataset: dict[str, Any] = Field(default_factory=dict)
    source: str = "bts_auto"


def write_fold(
    folder: Path | str, plan: Plan, state: Mapping[str, Tensor], record: FoldRecord | Mapping[str, Any]
) -> TrainedFold:
    """Write a trained fold: the plan first, the weights last, each atomically.

    Parameters
    ----------
    folder : Path
        ``fold_0`` of a recipe and configuration.
    plan : Plan
    state : mapping of str to Tensor
        The network's state, without any of the optimiser's.
    record : FoldRecord, or its fields
    """
    record = record if isinstance(record, FoldRecord) else FoldRecord(**record)
    folder = Path(folder)
    shutil.rmtree(folder / CONVERTED, ignore_errors=True)
    plan.save(folder / PLAN_FILE)
    save_weights(folder / WEIGHTS_FILE, state, record.model_dump(mode="json"))
    return TrainedFold(folder)


class TrainedFold:
    """A trained fold; nothing but a few bytes of metadata is read before it is asked for.

    Parameters
    ----------
    folder : Path
        Holds ``plan.json`` and ``checkpoint.safetensors``.

    Raises
    ------
    ModelError
        When a file is missing, damaged or of another version.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.record = parse_record(self._metadata(), self)

    def __str__(self) -> str:
        return str(self.folder)

    def _metadata(self) -> dict[str, Any]:
        if not (self.folder / PLAN_FILE).is_file():
            raise ModelError(f"holds no {PLAN_FILE}", where=self.folder, mend="is this the folder of a trained fold?")
        return read_metadata(self.folder / WEIGHTS_FILE)

    @cached_property
    def plan(self) -> Plan:
        """The plan that was trained."""
        return Plan.load(self.folder / PLAN_FILE)

    @property
    def configuration_name(self) -> str:
        """The plan's configuration that was trained."""
        return self.record.configuration

    @cached_property
    def configuration(self) -> SegmentationConfiguration:
        """The configuration, with all that it inherits."""
        return self.plan.configuration(self.configuration_name)

    @property
    def fold(self) -> FoldName:
        """Number of the fold, or "all"."""
        return self.record.fold

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.record.epoch

    @property
    def dataset(self) -> dict[str, Any]:
        """Content of the dataset.json that it was trained on."""
        return self.record.dataset

    @cached_property
    def labels(self) -> Labels:
        """The labels of the dataset."""
        return self.plan.label_set()

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of the weights' file; the name under which a compiled model may be kept."""
        return hash_file(self.folder / WEIGHTS_FILE)

    def converted_file(self, folder: Path | None = None) -> Path:
        """Where an engine may keep what it made of the network: a name that changes with all that decides its content.

        Parameters
        ----------
        folder : Path, optional
            None: a folder of the fold's own.
        """
        options = self.configuration.model_dump(mode="json", exclude={"training", "inference", "postprocessing"})
        return (folder or self.folder / CONVERTED) / hash_json([self.content_hash, options])

    def with_measured(self, measured: Sequence[MeasuredTile]) -> TrainedFold:
        """Write what validation found about tiles into the fold's plan; returns the fold as it is then."""
        return self._with_inference(measured=[one.model_dump(mode="json") for one in measured])

    def with_ranges(self, ranges: Ranges) -> TrainedFold:
        """Write between which values the layers work into the fold's plan; returns the fold as it is then."""
        return self._with_inference(ranges={name: list(limits) for name, limits in ranges.items()})

    def _with_inference(self, **values: Any) -> TrainedFold:
        self.plan.replaced(self.configuration_name, "inference", values).save(self.folder / PLAN_FILE)
        return TrainedFold(self.folder)

    def state(self) -> dict[str, Tensor]:
        """The network's weights in single precision, in whichever they are stored."""
        state, _ = load_weights(self.folder / WEIGHTS_FILE)
        return as_precision(state, torch.float32)

    def network(self, device: torch.device | str = "cpu") -> nn.Module:
        """The network with its weights, on `device`, in evaluation mode and without deep supervision.

        Raises
        ------
        ModelError
            When the weights do not fit the plan's network.
        """
        try:
            network = network_with_weights(self.plan, self.configuration_name, self.state())
        except ModelError as error:
            raise ModelError(error.what, where=self) from None
        network.deep_supervision = False  # type: ignore[assignment]
        return network.to(device).eval().requires_grad_(False)


def parse_record(metadata: Mapping[str, Any], where: object) -> FoldRecord:
    """Check a checkpoint's metadata.

    Raises
    ------
    ModelError
        For another version or content.
    """
    if metadata.get("version") != MODEL_VERSION:
        raise ModelError(
            f"model of version {metadata.get('version')}, this program reads version {MODEL_VERSION}", where=where
        )
    try:
        return FoldRecord.model_validate(dict(metadata))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ModelError(f"damaged metadata: '{key}': {first['msg']}", where=where) from None


def find_folds(
    results: Path, recipe: str, configuration: str, folds: Sequence[FoldName] | None = None
) -> list[TrainedFold]:
    """The trained folds of a recipe and configuration.

    Parameters
    ----------
    results : Path
        ``results/DatasetXXX_Name``.
    folds : sequence, optional
        Which ones; None: all numbered folds that have weights, or else ``all``.

    Raises
    ------
    ModelError
        When one that is asked for, or any at all, is missing; it says which there are.
    """
    folder = results / f"{recipe}__{configuration}"
    there = _folds_with_weights(folder)
    wanted = list(folds) if folds is not None else ([fold for fold in there if fold != "all"] or there)
    missing = [fold for fold in wanted if fold not in there]
    if missing or not wanted:
        names = ", ".join(map(str, there)) or "none"
        what = f"fold {missing[0]} is not trained" if missing else "no fold is trained"
        command = f"bts_train {configuration} {missing[0] if missing else 0}{recipe_option(recipe)}"
        mend = f"trained folds: {names}; train with: {command}"
        raise ModelError(what, where=folder, mend=mend)
    return [TrainedFold(folder / f"fold_{fold}") for fold in wanted]


def _folds_with_weights(folder: Path) -> list[FoldName]:
    names = [path.parent.name.removeprefix("fold_") for path in folder.glob(f"fold_*/{WEIGHTS_FILE}")]
    numbered: list[FoldName] = sorted(int(name) for name in names if name.isdigit())
    return numbered + (["all"] if "all" in names else [])

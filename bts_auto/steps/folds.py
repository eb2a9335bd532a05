"""The folds of a stage as jobs that an executor spreads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bts_auto.errors import BtsError
from bts_auto.events import SILENT
from bts_auto.steps.stage import Stage

if TYPE_CHECKING:
    from bts_auto.data.splits import Split
    from bts_auto.evaluate.scores import Scores
    from bts_auto.model.layout import FoldName
    from bts_auto.preprocess.masks import MaskStore
    from bts_auto.train.trainer import TrainingResult

Job = tuple["FoldName", "Split"]


@dataclass(frozen=True)
class FoldDone:
    """What came of a fold; `training` None: it was only validated."""

    scores: Scores | None = None
    training: TrainingResult | None = None


@dataclass(frozen=True)
class FoldFailed:
    """Why a fold could not be trained while others were, in one line."""

    reason: str


@dataclass(frozen=True)
class TrainFolds:
    """Trains or validates folds wherever an executor has its workers; see :class:`bts_auto.execute.contract.Task`.

    Attributes
    ----------
    stage : Stage
        Its observer stays behind when this goes to another process.
    previous : MaskStore or None
        The previous stage's masks.
    options : dict
        Of every fold, for :func:`bts_auto.train.trainer.train_fold`.
    budgets : mapping of fold to float or None
        Seconds for each fold.
    validate_only : bool
    one : bool
        Whether there is only one job, whose failure is the command's.
    """

    stage: Stage
    previous: MaskStore | None
    options: Mapping[str, Any]
    budgets: Mapping[FoldName, float | None]
    validate_only: bool
    one: bool

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"stage": replace(_absolute(self.stage), observer=SILENT)}

    def prepare(self, device: str) -> str:
        """Nothing is shared by the folds but the device."""
        from bts_auto import machine

        machine.keep_freed_memory()
        return device

    def do(self, device: str, job: Job) -> Iterator[FoldDone | FoldFailed]:
        """Train a fold, or what is left of that."""
        try:
            yield self._do(device, *job)
        except Exception as error:
            if self.one or isinstance(error, MemoryError):
                raise
            yield FoldFailed(str(error) if isinstance(error, BtsError) else f"{type(error).__name__}: {error}")

    def _do(self, device: str, fold: FoldName, split: Split) -> FoldDone:
        stage, previous = self.stage, self.previous
        if self.validate_only:
            return FoldDone(stage.validate(fold, stage.prepared(split.validation), previous, device=device))
        options = {**self.options, "device": device, "budget": self.budgets[fold]}
        training = stage.train(fold, split, previous, **options)
        return FoldDone(training.scores, training)


def _absolute(stage: Stage) -> Stage:
    """The stage with folders that mean the same to a process that stands elsewhere."""
    place = stage.place
    paths: dict[str, Any] = {name: value.absolute() for name, value in vars(place).items() if isinstance(value, Path)}
    store = type(stage.store)(stage.store.folder.absolute())
    return replace(stage, place=replace(place, **paths), store=store, folds=tuple(stage.splits()))

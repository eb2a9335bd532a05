"""All that a training is about, before anything of it is opened. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bts_auto.data.labels import Labels
from bts_auto.plan.schema import Plan, SegmentationConfiguration
from bts_auto.preprocess.masks import MaskStore
from bts_auto.preprocess.store import CaseStore

if TYPE_CHECKING:
    from bts_auto.data.raw import RawDataset


@dataclass(frozen=True)
class Fold:
    """All that a training is about; made by :func:`bts_auto.train.trainer.train_fold`.

    `plan` is the effective one: with the epochs, iterations and seed that were asked for.
    """

    plan: Plan
    configuration_name: str
    fold: int | str
    store: CaseStore
    labels: Labels
    training_cases: tuple[str, ...]
    validation_cases: tuple[str, ...]
    folder: Path
    budget: float | None
    pretrained: Path | None
    device: str
    workers: int | None
    raw: RawDataset | None
    previous: MaskStore | None = None
    loggers: tuple[str, ...] = ()
    unlabelled: CaseStore | None = None
    weights: tuple[float, ...] | None = None
    step_seconds: float | None = None

    @property
    def configuration(self) -> SegmentationConfiguration:
        """What is trained."""
        return self.plan.configuration(self.configuration_name)

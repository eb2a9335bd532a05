"""All that a training is about, before anything of it is opened. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bts_auto.data.labels import Labels
from bts_auto.plan.schema import Plan, SegmentationConfiguration
from bts_auto.preprocess.masks import MaskStore
from bts_auto.preprocess.store import CaseStore

if TYPE_CHECKING:
    from bts_auto.data.raw import RawDataset

_PLAIN = (
    "configuration_name", "fold", "training_cases", "validation_cases", "budget", "device", "workers", "weights",
    "step_seconds",
)  # fmt: skip
_STORES: dict[str, type[CaseStore] | type[MaskStore]] = {
    "store": CaseStore, "previous": MaskStore, "unlabelled": CaseStore,
}  # fmt: skip


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
    lengthen: bool = False

    @property
    def configuration(self) -> SegmentationConfiguration:
        """What is trained."""
        return self.plan.configuration(self.configuration_name)

    def to_json(self) -> dict[str, Any]:
        """All that another process needs to train along; what only the first one does is left out."""
        values = {name: getattr(self, name) for name in _PLAIN}
        folders = {name: getattr(self, name) for name in _STORES if getattr(self, name) is not None}
        return {
            **values,
            **{name: str(store.folder) for name, store in folders.items()},
            "plan": self.plan.model_dump(mode="json"),
            "folder": str(self.folder),
            "pretrained": None if self.pretrained is None else str(self.pretrained),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Fold:
        """From :meth:`to_json`."""
        plan = Plan.from_values(values["plan"])
        plain = {name: values[name] for name in _PLAIN}
        lists = {name: tuple(value) for name, value in plain.items() if isinstance(value, list)}
        stores = {name: kind(values[name]) for name, kind in _STORES.items() if name in values}
        pretrained = None if values["pretrained"] is None else Path(values["pretrained"])
        given = {**plain, **lists, **stores, "folder": Path(values["folder"]), "pretrained": pretrained}
        return cls(plan=plan, labels=plan.label_set(), raw=None, **given)

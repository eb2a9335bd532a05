"""Where the cases of a prediction are worked on, and how the model gets there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bts_auto import machine
from bts_auto.errors import PlanError
from bts_auto.events import SILENT, Observer, Task
from bts_auto.steps.place import Place, locate

if TYPE_CHECKING:
    from bts_auto.execute.contract import Executor
    from bts_auto.predict.segmenter import Segmenter


class _Notes(Observer):
    """Keeps notes and passes everything else on."""

    def __init__(self, observer: Observer) -> None:
        self.notes: list[str] = []
        self._observer = observer

    def note(self, message: str) -> None:
        self.notes.append(message)

    def warn(self, message: str) -> None:
        self._observer.warn(message)

    def detail(self, message: str) -> None:
        self._observer.detail(message)

    def task(self, title: str, total: int | None = None, unit: str = "case") -> Task:
        return self._observer.task(title, total, unit)


def find_place(
    model: Path | None, dataset: str | int | None, workspace: Path | None, observer: Observer
) -> Place | None:
    """The dataset whose model is meant; None where a `model` is named, beside which nothing else may be.

    Raises
    ------
    PlanError
        For a model and a dataset.
    """
    if model is None:
        return locate(dataset, workspace, observer)
    if dataset is not None or workspace is not None:
        option = "a dataset (-d)" if dataset is not None else "a workspace (--workspace)"
        raise PlanError(f"a model (-m) and {option} were named", mend="name one of them")
    return None


@dataclass(frozen=True)
class LoadModel:
    """Loads the model that is meant, wherever the cases are worked on.

    Attributes
    ----------
    model : Path or None
        A package, or the folder of a fold; None: one of `results`.
    results : Path or None
        ``results/DatasetXXX_Name``.
    recipe, configuration, folds
        Which of the folds that are there, see :func:`predict`.
    how : dict
        Arguments of :class:`bts_auto.predict.predictor.CasePredictor`, but for the device.
    observer : Observer
        Hears of tiles; it stays behind when this goes to another process.
    """

    model: Path | None
    results: Path | None
    recipe: str | None
    configuration: str | None
    folds: Sequence[str | int] | None
    how: dict[str, Any]
    observer: Observer = SILENT

    def __post_init__(self) -> None:
        from bts_auto.predict.settings import checked_settings

        for name in ("model", "results"):  # a worker may stand in another folder
            path = getattr(self, name)
            object.__setattr__(self, name, path and path.absolute())
        object.__setattr__(self, "how", checked_settings(**self.how))

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"observer": SILENT}

    def __call__(self, device: str) -> tuple[Segmenter, list[str]]:
        """The model on `device`, and what a user should know about the choice."""
        from bts_auto.steps.prediction import predictor_from_file, predictor_from_results

        machine.keep_freed_memory()
        how, told = self.how | {"device": device}, _Notes(self.observer)
        which = (self.recipe, self.configuration, self.folds)
        if self.model is not None:
            return predictor_from_file(self.model, *which, how, told), told.notes
        assert self.results is not None
        return predictor_from_results(self.results, *which, how, told), told.notes


def choose_executor(name: str | None, scheduler: str | None, device: str, *, all_gpus: bool) -> Executor:
    """The executor of that name; None: the one that the other arguments speak of.

    Parameters
    ----------
    device : str
        What a worker computes on; several for the executor ``local``, ``cuda:0,cuda:1``.
    all_gpus : bool
        Whether ``auto`` means every GPU of this machine.

    Raises
    ------
    PlanError
        When the arguments do not fit together.
    """
    from bts_auto.execute.contract import open_executor

    if scheduler is not None:
        name = name or "dask"
    devices = [device] if name == "dask" else _devices(device, all_gpus)
    name = name or ("local" if len(devices) > 1 else "serial")
    if (scheduler is None) == (name == "dask"):
        raise PlanError("--executor dask and --scheduler ADDRESS belong together")
    options: dict[str, dict[str, Any]] = {
        "dask": {"scheduler": scheduler, "device": device},
        "local": {"devices": devices},
        "serial": {"device": device},
    }
    return open_executor(name, **options.get(name, {}))


def _devices(device: str, all_gpus: bool) -> list[str]:
    """The devices of ``cuda:0,cuda:1``; of ``auto`` all GPUs, if there are several and they are wanted."""
    if device != "auto":
        return [one.strip() for one in device.split(",")]
    if not all_gpus:
        return ["auto"]
    import torch

    count = torch.cuda.device_count()
    return [f"cuda:{number}" for number in range(count)] if count > 1 else ["auto"]

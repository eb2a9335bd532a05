"""The journal's records for programs that draw curves. Each is an extra and is loaded when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bts_auto import registry
from bts_auto.errors import BtsError
from bts_auto.events import SILENT, Observer


@dataclass(frozen=True)
class LoggedRun:
    """What a logger is told about a training before its first record: where it lies and what it is called."""

    folder: Path
    dataset: str
    name: str
    settings: Mapping[str, Any]


class Logger(Protocol):
    """Takes the numbers of each epoch."""

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        """Numbers by name (``loss``, ``dice/edema``); an epoch that a resumed run repeats comes again."""
        ...

    def close(self) -> None:
        """Hand over what is kept back."""
        ...


def open_loggers(names: Sequence[str], run: LoggedRun) -> list[Logger]:
    """The loggers of these names.

    Raises
    ------
    PlanError
        For a name that is not registered.
    BtsError
        When the program behind it is not installed.
    """
    return [registry.component("logger", name)(run) for name in names]


def numbers(record: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of a journal's record, nested ones joined by ``/``."""
    found: dict[str, float] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            found |= numbers(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{prefix}{key}"] = float(value)
    return found


def log_all(loggers: list[Logger], record: Mapping[str, Any], epoch: int, observer: Observer = SILENT) -> None:
    """Give the numbers of an epoch's record to every logger; one that fails is named and taken out of the list.

    A training must not end because a program that draws its curves cannot be reached.
    """
    values = numbers(record) if loggers else {}
    for logger in tuple(loggers):
        try:
            logger.log(values, epoch)
        except Exception as error:
            loggers.remove(logger)
            name = type(logger).__name__
            observer.warn(f"{name} is told no more of this training ({type(error).__name__}: {error})")


def close(logger: Logger, observer: Observer = SILENT) -> None:
    """Close a logger; what fails then is named."""
    try:
        logger.close()
    except Exception as error:
        observer.warn(f"{type(logger).__name__} did not end well ({type(error).__name__}: {error})")


def _missing(program: str, package: str) -> BtsError:
    return BtsError(f"{program} is not installed", where="--log", mend=f"pip install {package}")


class TensorBoard:
    """Event files in the fold's folder ``tensorboard``."""

    def __init__(self, run: LoggedRun) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise _missing("TensorBoard", "'bts_auto[tb]'") from None
        self._writer = SummaryWriter(str(run.folder / "tensorboard"))

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        """One scalar for each number."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch)

    def close(self) -> None:
        """Write what is buffered."""
        self._writer.close()


class MLflow:
    """A run in the dataset's experiment, wherever MLflow's own environment variables point."""

    def __init__(self, run: LoggedRun) -> None:
        try:
            import mlflow
        except ImportError:
            raise _missing("MLflow", "mlflow") from None
        self._mlflow = mlflow
        mlflow.set_experiment(run.dataset)
        mlflow.start_run(run_name=run.name)
        mlflow.log_dict(dict(run.settings), "settings.json")

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        """One metric for each number."""
        self._mlflow.log_metrics(dict(values), step=epoch)

    def close(self) -> None:
        """End the run."""
        self._mlflow.end_run()


class WeightsAndBiases:
    """A run in the dataset's project; its files lie in the fold's folder."""

    def __init__(self, run: LoggedRun) -> None:
        try:
            import wandb
        except ImportError:
            raise _missing("Weights & Biases", "wandb") from None
        self._run = wandb.init(
            project=run.dataset, name=run.name, config=dict(run.settings), dir=str(run.folder), reinit=True
        )

    def log(self, values: Mapping[str, float], epoch: int) -> None:
        """All numbers of an epoch."""
        self._run.log(dict(values), step=epoch)

    def close(self) -> None:
        """End the run."""
        self._run.finish()

"""What a training was told to do, kept in its folder, and whether it is finished. Needs no torch."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bts_auto.errors import BtsError, PlanError
from bts_auto.files import read_json, write_json
from bts_auto.plan.schema import DECIDES_NOTHING, Plan

RUN_FILE = "run.json"
STOP_FILE = "STOP"
"""A file of this name in a fold's folder lets its training come to its end: the learning rate anneals first."""
_VERSION = 1
_SHOWN_DIFFERENCES = 5
# Fields of a configuration that are used after the training only; they may change without making it another run.
_AFTER_TRAINING = {"inference", "postprocessing", "next_stage"}
# Fields of a training that only say how its machine computes; they may change from one part of a run to the next.
_OF_THE_MACHINE = {"augmentation_device", "compile"}
# Fields of a plan that do not change what a training does, or (configurations) are looked at one by one.
_NOT_COMPARED = {
    "configurations", "recipe", "gpu_memory_gb", "planner", "preset", "budget_seconds", "splits", *DECIDES_NOTHING
}  # fmt: skip
# Values of options that are not used.
_NOTHING: tuple[Any, ...] = (None, [], {})
# Everything that a training leaves in its folder besides the record itself.
_FILES = (
    "plan.json",
    "checkpoint.safetensors",
    "checkpoint_best.safetensors",
    "checkpoint_chosen.safetensors",
    "training_state.safetensors",
    "training_state.previous.safetensors",
    "journal.jsonl",
    "progress.png",
    STOP_FILE,
)


def effective_plan(
    plan: Plan,
    configuration_name: str,
    *,
    epochs: int | None = None,
    iterations: int | None = None,
    seed: int | None = None,
    until_plateau: int | None = None,
) -> Plan:
    """The plan with the given fields of a configuration's training replaced.

    Patches for the pseudo Dice follow the iterations in the plan's proportion, at least one an epoch.

    Raises
    ------
    PlanError
        When a value does not fit.
    """
    training = plan.configuration(configuration_name).training
    changes: dict[str, Any] = {}
    if epochs is not None:
        changes["epochs"] = epochs
    if seed is not None:
        changes["seed"] = seed
    if until_plateau is not None:
        changes["until_plateau"] = until_plateau
    if iterations is not None:
        share = training.validation_iterations / training.iterations
        changes["iterations"] = iterations
        changes["validation_iterations"] = max(1, round(share * iterations)) if share else 0
    return plan.replaced(configuration_name, "training", changes)


def settings_of(
    plan: Plan,
    configuration_name: str,
    fold: int | str,
    training_cases: Sequence[str],
    validation_cases: Sequence[str],
    *,
    budget: float | None,
    pretrained: Path | None,
) -> dict[str, Any]:
    """All that decides what a training does, as JSON."""
    configuration = plan.configuration(configuration_name).model_dump(mode="json", exclude=_AFTER_TRAINING)
    for name in _OF_THE_MACHINE:
        del configuration["training"][name]
    whole = plan.model_dump(mode="json", exclude=_NOT_COMPARED)
    return {
        **whole,
        **configuration,
        "configuration": configuration_name,
        "fold": fold,
        "training_cases": sorted(training_cases),
        "validation_cases": sorted(validation_cases),
        "budget": budget,
        "pretrained": None if pretrained is None else str(pretrained.resolve()),
    }


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Where two settings differ: ``"training.epochs: 10, now 20"``.

    What `old` does not name was not there yet when it was written: an empty value is then no difference.
    """
    found = []
    for key in [*old, *(key for key in new if key not in old)]:
        mine, theirs = old.get(key), new.get(key)
        if mine == theirs or (key not in old and theirs in _NOTHING):
            continue
        if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            found += differences(mine, theirs, f"{prefix}{key}.")
        else:
            found.append(f"{prefix}{key}: {_short(mine)}, now {_short(theirs)}")
    return found


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:40]}... ({hashlib.sha256(text.encode()).hexdigest()[:6]})"


@dataclass(frozen=True)
class Run:
    """The record of a training.

    Attributes
    ----------
    settings : dict
        See :func:`settings_of`.
    measured : dict
        Choices that were measured at the start, so that a resumed run repeats them.
    finished : dict or None
        What came out: steps, epochs, seconds; None while it is unfinished.
    """

    settings: dict[str, Any]
    measured: dict[str, Any] = field(default_factory=dict)
    finished: dict[str, Any] | None = None

    def save(self, folder: Path) -> None:
        """Write the record."""
        values = {"settings": self.settings, "measured": self.measured, "finished": self.finished}
        write_json(folder / RUN_FILE, {"version": _VERSION, **values})

    @classmethod
    def find(cls, folder: Path, settings: Mapping[str, Any]) -> Run | None:
        """The run that lies in `folder`, if any.

        Raises
        ------
        PlanError
            When it was begun with other settings; they are named.
        """
        path = folder / RUN_FILE
        if not path.exists():
            return None
        try:
            values = read_json(path)
        except BtsError as error:
            raise PlanError(error.what, where=path, mend="start over with --restart") from None
        if not isinstance(values, dict) or values.get("version") != _VERSION:
            raise PlanError(
                "was begun by another version of this program", where=folder, mend="start over with --restart"
            )
        if missing := [name for name in ("settings", "measured", "finished") if name not in values]:
            raise PlanError(f"is damaged (no '{missing[0]}')", where=path, mend="start over with --restart")
        run = cls(values["settings"], values["measured"], values["finished"])
        if found := differences(run.settings, settings):
            state = "finished" if run.finished else "unfinished"
            more = f" and {len(found) - _SHOWN_DIFFERENCES} more" if len(found) > _SHOWN_DIFFERENCES else ""
            raise PlanError(
                f"holds {'a' if run.finished else 'an'} {state} training with other settings "
                f"({'; '.join(found[:_SHOWN_DIFFERENCES])}{more})",
                where=folder,
                mend="use the same settings again, or start over with --restart",
            )
        return run


def is_finished(folder: Path) -> bool:
    """Whether a fold is trained: by a run that has ended, or by something else that left weights and no record."""
    if not (folder / "checkpoint.safetensors").exists():
        return False
    return not (folder / RUN_FILE).exists() or _readable(folder).get("finished") is not None


def shares_of_budget(
    budget: float | None, folders: Sequence[Path], anew: Container[Path] = ()
) -> dict[Path, float | None]:
    """What each of several trainings gets of the time that a command has.

    Equal parts, the same when the command is repeated. A training that was begun within a budget keeps the one it has,
    so that it can go on, and one that was finished without any takes no time.

    Parameters
    ----------
    anew : container of Path
        Those of the folders that start over, whatever lies there.
    """
    if budget is None or len(folders) == 1:
        return dict.fromkeys(folders, budget)
    own = {folder: None if folder in anew else _own_budget(folder) for folder in folders}
    free = [folder for folder in folders if folder not in anew and own[folder] is None and is_finished(folder)]
    share = budget / max(1, len(folders) - len(free))
    return {folder: None if folder in free else (own[folder] or share) for folder in folders}


def _own_budget(folder: Path) -> float | None:
    settings = _readable(folder).get("settings")
    return settings.get("budget") if isinstance(settings, dict) else None


def _readable(folder: Path) -> dict[str, Any]:
    """The record of a training; empty where there is none, or a damaged one, which its own training will name."""
    try:
        values = read_json(folder / RUN_FILE)
    except (BtsError, OSError):
        return {}
    return values if isinstance(values, dict) else {}


def clear(folder: Path) -> None:
    """Remove all that a training left in `folder`; the record goes last, so that a killed clearing is seen."""
    shutil.rmtree(folder / "validation", ignore_errors=True)
    for name in (*_FILES, RUN_FILE):
        (folder / name).unlink(missing_ok=True)


def trained_cases(folder: Path) -> tuple[str, ...]:
    """The cases that the fold in `folder` was trained on; empty where that is not recorded (an imported model)."""
    path = folder / RUN_FILE
    return tuple(read_json(path)["settings"]["training_cases"]) if path.exists() else ()

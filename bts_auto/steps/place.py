"""Where a dataset's folders lie, and what a verb returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bts_auto.errors import CaseFailure, DataError
from bts_auto.events import SILENT, Observer
from bts_auto.files import read_json, write_json
from bts_auto.model.layout import DEFAULT_RECIPE

if TYPE_CHECKING:
    from bts_auto.data.raters import Reference
    from bts_auto.data.raw import RawDataset
    from bts_auto.data.split_rules import SplitRules
    from bts_auto.plan.schema import Plan

PLAN_FILE = "plan.json"
FINGERPRINT_FILE = "dataset_fingerprint.json"
_LAST_PREDICTIONS = ".last_predictions.json"


@dataclass(frozen=True)
class Outcome:
    """What came of a verb.

    Attributes
    ----------
    done : int
        Cases (or folds) that were done now or before.
    failures : tuple of CaseFailure
        Those that could not be done, with the reason.
    data : dict
        The result as JSON values, for machines.
    lines : tuple of str
        The result in words, for people.
    """

    done: int
    failures: tuple[CaseFailure, ...] = ()
    data: dict[str, Any] = field(default_factory=dict)
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """A dataset's folders in a workspace."""

    name: str
    raw: Path
    preprocessed: Path
    results: Path

    @property
    def rates_folder(self) -> Path:
        """Where the speed of this machine is remembered: beside the preprocessed datasets."""
        return self.preprocessed.parent

    def remember_predictions(self, folder: Path) -> None:
        """Note where the last masks of this dataset went."""
        write_json(self.results / _LAST_PREDICTIONS, {"folder": str(folder.absolute())})

    def last_predictions(self) -> Path:
        """Where the last masks of this dataset went.

        Raises
        ------
        DataError
            When nothing was predicted yet.
        """
        path = self.results / _LAST_PREDICTIONS
        if not path.exists():
            raise DataError("nothing was predicted yet", where=self.name, mend="name the folder with -p")
        return Path(read_json(path)["folder"])

    def references(self) -> dict[str, Reference]:
        """The mask of each case that has one: those of training and, where there is a ``labelsTs``, of testing."""
        raw = self.dataset()
        found = {name: case.mask for name, case in raw.training_cases().items() if case.mask is not None}
        testing = (self.raw / "labelsTs").glob(f"*{raw.file_ending}")
        return found | {path.name.removesuffix(raw.file_ending): path for path in sorted(testing)}

    def dataset(self) -> RawDataset:
        """The raw dataset."""
        from bts_auto.data.raw import RawDataset

        return RawDataset.open(self.raw)

    def plan_path(self, recipe: str | None = None) -> Path:
        """Where the dataset's plan lies, or the one that a recipe has made of it."""
        return self.preprocessed / (PLAN_FILE if recipe in (None, DEFAULT_RECIPE) else f"plan__{recipe}.json")

    def split_rules(self) -> SplitRules:
        """How the dataset's folds are drawn; its plan says so."""
        from bts_auto.data.split_rules import SplitRules
        from bts_auto.plan.schema import Plan

        return Plan.load(self.plan_path()).splits if self.plan_path().exists() else SplitRules()

    def plan(self, recipe: str | Path | None = None) -> Plan:
        """The dataset's plan, with a recipe laid over it where one is named.

        Raises
        ------
        DataError
            Before planning; the line says which command to run.
        PlanError
            When the recipe does not exist or does not fit.
        """
        from bts_auto.plan.recipes import apply_recipe, load_recipe
        from bts_auto.plan.schema import Plan

        if not self.plan_path().exists():
            raise DataError("is not planned yet", where=self.name, mend=f"run bts_plan_and_preprocess -d {self.name}")
        if recipe is None:
            return Plan.load(self.plan_path())
        laid = load_recipe(recipe)
        # A recipe that names a preset was sized by the planner; its sizes are not those of the dataset's own plan. What
        # was planned for an ensemble holds for its members.
        made = [self.plan_path(laid.name), self.plan_path(laid.name.partition(".")[0])]
        return apply_recipe(Plan.load(next(filter(Path.exists, made), self.plan_path())), laid)


def locate(dataset: str | int | None, workspace: Path | None, observer: Observer = SILENT) -> Place:
    """Find a dataset's folders; which dataset it is, is the first thing said."""
    from bts_auto.data.workspace import Workspace

    found = Workspace.locate(workspace)
    name = found.dataset(dataset)
    observer.note(f"dataset: {name}")
    return Place(name, found.raw / name, found.preprocessed / name, found.results / name)


def locate_for_model(
    dataset: str | int | None, workspace: Path | None, own_name: Callable[[], str], observer: Observer = SILENT
) -> Place:
    """Find the folders of a dataset that a model is brought in for; the dataset itself need not be there.

    Parameters
    ----------
    own_name : callable
        Returns the name of the dataset that the model was trained on; asked only where `dataset` is not there. Its
        folder gets this name, with the number of `dataset` where that is one.

    Raises
    ------
    DataError
        When it is not clear which of several datasets is meant, or `dataset` is not there and is not a number.
    """
    from bts_auto.data.raw import NAME
    from bts_auto.data.workspace import Workspace

    found = Workspace.locate(workspace)
    try:
        return locate(dataset, workspace, observer)
    except DataError:
        wanted = None if dataset is None else str(dataset)
        if (wanted is None and found.datasets()) or (wanted is not None and not wanted.isdigit()):
            raise
        given = NAME.fullmatch(own_name())
        number, rest = (given[1], given[2]) if given else ("1", "Imported")
        name = f"Dataset{int(wanted or number):03d}_{rest}"
    observer.note(f"dataset: {name}, of which only results are there")
    return Place(name, found.raw / name, found.preprocessed / name, found.results / name)


def counted(number: int, what: str) -> str:
    """``1 mask``, ``2 masks``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def merged(*groups: list[CaseFailure]) -> tuple[CaseFailure, ...]:
    """Failures of several stages, each case once, the first reason kept."""
    by_case: dict[str, CaseFailure] = {}
    for failure in (one for group in groups for one in group):
        by_case.setdefault(failure.case, failure)
    return tuple(by_case[case] for case in sorted(by_case))

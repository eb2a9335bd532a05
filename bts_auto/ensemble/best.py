"""`best.json`: which members predictions come from, how they are combined and corrected, how good that is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from bts_auto.data.likeness import TrainingLook
from bts_auto.documents import Document, parse
from bts_auto.ensemble.agreement import Agreement
from bts_auto.ensemble.calibration import Calibration
from bts_auto.errors import BtsError, ModelError, PlanError
from bts_auto.files import read_json, write_json
from bts_auto.plan.schema import Component

if TYPE_CHECKING:
    from bts_auto.model.fold import TrainedFold

BEST_FILE = "best.json"
BEST_VERSION = 1
_CHOOSE_AGAIN = "choose again with bts_ensemble"


class Member(Document):
    """One trained recipe and configuration, with the folds that are averaged."""

    recipe: str
    configuration: str
    folds: tuple[int, ...]

    @property
    def name(self) -> str:
        """The folder of its folds: ``recipe__configuration``."""
        return f"{self.recipe}__{self.configuration}"

    def trained(self, results: Path) -> list[TrainedFold]:
        """Its folds in the dataset's results folder.

        Raises
        ------
        ModelError
            When one is missing; it says how to train it, and that one may choose again.
        """
        from bts_auto.model.fold import find_folds

        try:
            return find_folds(results, self.recipe, self.configuration, self.folds)
        except ModelError as error:
            mend = "; ".join(filter(None, (error.mend, f"or {_CHOOSE_AGAIN}")))
            raise ModelError(f"{error.what}, and {BEST_FILE} needs it", where=error.where, mend=mend) from None


class ScoredCandidate(Document):
    """A combination that was tried, with its mean Dice over the cross-validated cases."""

    members: tuple[str, ...]
    weights: tuple[float, ...] | None = None
    combiner: str
    recipe: str | None = Field(None, description="the ensemble recipe that it comes from")
    mean_dice: float | None
    value: float | None = Field(None, description="what was compared: mean Dice, or the mean rank (smaller is better)")


class TriedRule(Document):
    """A post-processing rule that was tried on top of those accepted before it.

    `difference` is that of the mean Dice, `low` and `high` its 95 % bootstrap interval over cases.
    """

    rule: Component
    difference: float
    low: float | None
    high: float | None
    accepted: bool


class Best(Document):
    """The chosen pipeline of a dataset.

    `plain_score` is the mean Dice on the cases that the choice was made with, `nested_score` that of choices each made
    without the cases that they are scored on, `optimism` the difference. `calibration` turns the members' mean
    probability into one that can be taken at its word; masks do not depend on it. `agreement` says how well the Dice of
    a case can be predicted, `training` what the cases look like that the members were trained on.
    """

    version: int = BEST_VERSION
    dataset_name: str
    members: tuple[Member, ...] = Field(min_length=1)
    recipe: str | None = Field(None, description="the ensemble recipe that was chosen")
    combiner: Component = Component(name="mean")
    weights: tuple[float, ...] | None = None
    postprocessing: tuple[Component, ...] = ()
    rule: Literal["mean_dice", "brats_ranking"] = "mean_dice"
    regions: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    plain_score: float | None = None
    nested_score: float | None = None
    optimism: float | None = None
    candidates: tuple[ScoredCandidate, ...] = ()
    tried_rules: tuple[TriedRule, ...] = ()
    calibration: Calibration | None = None
    agreement: Agreement | None = None
    training: TrainingLook | None = None
    notes: tuple[str, ...] = ()

    def combiner_options(self) -> dict[str, Any]:
        """The combiner's options with the chosen weights."""
        return self.combiner.options | ({} if self.weights is None else {"weights": self.weights})

    def save(self, folder: Path | str) -> Path:
        """Write ``best.json`` into the dataset's results folder; returns its path."""
        path = Path(folder) / BEST_FILE
        write_json(path, self.model_dump(mode="json"))
        return path

    @classmethod
    def load(cls, folder: Path | str) -> Best | None:
        """Read ``best.json`` of the dataset's results folder; None when nothing was chosen yet.

        Raises
        ------
        PlanError
            When the file is damaged, of another version or does not fit.
        """
        path = Path(folder) / BEST_FILE
        if not path.is_file():
            return None
        try:
            values = read_json(path)
        except BtsError as error:
            raise PlanError(error.what, where=path, mend=_CHOOSE_AGAIN) from None
        if not isinstance(values, dict) or values.get("version") != BEST_VERSION:
            raise PlanError("was written by another version", where=path, mend=_CHOOSE_AGAIN)
        return parse(cls, values, where=path, mend=_CHOOSE_AGAIN)

"""One configuration of a dataset's plan and its folds, as training and the cascade see them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bts_auto.errors import DataError, ModelError
from bts_auto.events import Observer
from bts_auto.steps.place import Place

if TYPE_CHECKING:
    from bts_auto.data.splits import Split
    from bts_auto.evaluate.scores import Scores
    from bts_auto.model.layout import FoldName
    from bts_auto.plan.schema import Plan
    from bts_auto.preprocess.masks import MaskStore
    from bts_auto.preprocess.store import CaseStore
    from bts_auto.train.trainer import TrainingResult


@dataclass(frozen=True)
class Stage:
    """A configuration with its prepared cases.

    Attributes
    ----------
    place : Place
        The dataset's folders.
    plan : Plan
    configuration : str
        A configuration of the plan.
    store : CaseStore
        Its prepared cases.
    folds : tuple of Split, optional
        The folds, in place of the dataset's.
    """

    place: Place
    plan: Plan
    configuration: str
    store: CaseStore
    observer: Observer
    folds: tuple[Split, ...] | None = None

    @classmethod
    def open(cls, place: Place, plan: Plan, configuration: str, observer: Observer) -> Stage:
        """Find the prepared cases of a configuration.

        Raises
        ------
        DataError
            When there are none.
        PlanError
            When the plan has no such configuration.
        """
        from bts_auto.preprocess.dataset import store_folder
        from bts_auto.preprocess.store import CaseStore

        plan.configuration(configuration)
        store = CaseStore(store_folder(place.preprocessed, plan, configuration))
        if not store.cases():
            raise DataError(
                f"no case is preprocessed for {configuration}",
                where=place.name,
                mend=f"run bts_preprocess -d {place.name} -c {configuration}",
            )
        return cls(place, plan, configuration, store, observer)

    def before(self) -> Stage | None:
        """The stage whose masks this one takes as input, if there is one."""
        name = self.plan.configuration(self.configuration).previous_stage
        if name is None:
            return None
        # The same folds, also where one of the stages lacks a case: they decide whose masks are free of annotations.
        return replace(Stage.open(self.place, self.plan, name, self.observer), folds=tuple(self.splits()))

    def folder(self, fold: FoldName) -> Path:
        """Where a trained fold lies."""
        from bts_auto.model.layout import fold_folder

        return fold_folder(self.place.results, self.plan.recipe, self.configuration, fold)

    def prepared(self, cases: Iterable[str]) -> list[str]:
        """Those of the cases that are preprocessed, sorted."""
        return sorted(set(cases) & set(self.store.cases()))

    def splits(self) -> list[Split]:
        """The folds of the cross-validation."""
        return self._splits if self.folds is None else list(self.folds)

    @cached_property
    def _splits(self) -> list[Split]:
        from bts_auto.data.splits import load_or_make_splits, present, read_splits

        place, cases = self.place, self.store.cases()
        known = {*place.dataset().training_cases(), *cases}
        rules = place.split_rules()
        found = read_splits(place.raw, place.preprocessed, known, self.observer, pattern=rules.patient_pattern)
        if found is None:  # somebody has deleted them
            return load_or_make_splits(place.raw, place.preprocessed, cases, self.observer, rules=rules)
        return present(found, cases)

    def named(self, fold: str) -> list[tuple[FoldName, Split]]:
        """Which folds are meant by a number, ``"all"`` or ``"cv"``, with their cases.

        Raises
        ------
        DataError
            When there is no such fold.
        """
        from bts_auto.data.splits import Split

        if fold == "all":
            return [("all", Split(train=tuple(sorted(self.store.cases())), validation=()))]
        splits = self.splits()
        if fold == "cv":
            return list(enumerate(splits))
        if not fold.isdigit() or int(fold) >= len(splits):
            known = ", ".join(map(str, range(len(splits))))
            raise DataError(
                f"there is no fold '{fold}'", where=self.place.name, mend=f"folds are {known}, 'all' and 'cv'"
            )
        return [(int(fold), splits[int(fold)])]

    def train(self, fold: FoldName, split: Split, previous: MaskStore | None, **options: Any) -> TrainingResult:
        """Train and validate a fold, or what is left of that; see :func:`bts_auto.train.trainer.train_fold`."""
        from bts_auto.steps.measure import known_step_seconds, remember_training
        from bts_auto.train.trainer import train_fold

        rates, device = self.place.rates_folder, options.get("device", "auto")
        alone = options.get("processes") is None  # what several processes take says nothing about the machine
        done = train_fold(
            self.plan,
            self.configuration,
            fold,
            store=self.store,
            split=split,
            folder=self.folder(fold),
            labels=self.plan.label_set(),
            raw=self.place.dataset(),
            previous=previous,
            step_seconds=known_step_seconds(self.plan, self.configuration, rates, device=device) if alone else None,
            observer=self.observer,
            **options,
        )
        if alone and not done.already_finished:
            chosen = self.plan.configuration(self.configuration).training.precision == "auto"
            remember_training(self.folder(fold), rates, device=device, chosen=chosen, observer=self.observer)
        return done

    def validate(
        self, fold: FoldName, cases: Sequence[str], previous: MaskStore | None, *, device: str = "auto"
    ) -> Scores:
        """Predict and score the held-out cases of a trained fold.

        Raises
        ------
        ModelError
            When the fold was trained with other folds or on cases prepared in another way than those that are there.
        """
        from bts_auto.model.fold import TrainedFold
        from bts_auto.train.run import trained_cases
        from bts_auto.train.tile_trial import validate_trained
        from bts_auto.train.validate import HeldOut

        trained = TrainedFold(self.folder(fold))
        mend = "train it again with --restart"
        leaked = sorted(set(cases) & set(trained_cases(trained.folder)))
        if leaked:
            raise ModelError(f"was trained on {', '.join(leaked[:3])}, now held out", where=trained.folder, mend=mend)
        now = self.plan.configuration(self.configuration).preprocessing_key()
        if trained.configuration.preprocessing_key() != now:
            raise ModelError("was trained on cases prepared with other settings", where=trained.folder, mend=mend)
        references = self.place.dataset().training_cases()
        held_out = HeldOut(trained, self.store, references, previous=previous, device=device)
        return validate_trained(held_out, cases, observer=self.observer)

"""Which cases train and which validate in each fold of a cross-validation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bts_auto.data.split_rules import FOLDS, SplitRules, dealt, leaks, patients_of, rare_strata, strata_of
from bts_auto.errors import DataError
from bts_auto.events import SILENT, Observer
from bts_auto.files import read_json, write_json

SEED = 12345  # nnU-Net v2 draws its folds with this seed (generate_crossval_split)
_SHOWN = 5
GIVEN = "splits_final.json"
MADE = "splits.json"


@dataclass(frozen=True)
class Split:
    """One fold: the cases that train and the cases held out."""

    train: tuple[str, ...]
    validation: tuple[str, ...]


def make_splits(
    cases: Iterable[str],
    folds: int = FOLDS,
    seed: int = SEED,
    *,
    of_patient: Mapping[str, str] | None = None,
    of_stratum: Mapping[str, str] | None = None,
) -> list[Split]:
    """Draw the folds of a cross-validation.

    The same as scikit-learn's ``KFold(folds, shuffle=True, random_state=seed)`` over the sorted cases, and thereby as
    nnU-Net's; written out because scikit-learn takes longer to import than a dataset to plan.

    Parameters
    ----------
    cases : iterable of str
        Names; their order does not matter.
    folds : int
        With fewer cases there are as many folds as cases; one case gives one fold that validates on nothing.
    seed : int
        Of NumPy's ``RandomState``.
    of_patient : mapping of str to str, optional
        The patient of each case (a case that is missing is its own patient). Scans of one patient stay together.
    of_stratum : mapping of str to str, optional
        The stratum of each case, of which every fold gets its share; the folds are then no longer nnU-Net's.

    Raises
    ------
    DataError
        When there is no case.
    """
    units = _units(cases, of_patient or {})
    if not units:
        raise DataError("there is no case to train with")
    if len(units) == 1:
        return [Split(tuple(units[0]), ())]
    folds = min(folds, len(units))
    order = np.arange(len(units))
    np.random.RandomState(seed).shuffle(order)  # the generator that nnU-Net's splits come from
    parts = [part.tolist() for part in np.array_split(order, folds)]
    if of_stratum:
        parts = dealt(units, order.tolist(), of_stratum, folds)
    splits = []
    for held_out in parts:
        chosen = set(held_out)
        validation = [case for index, unit in enumerate(units) if index in chosen for case in unit]
        train = [case for index, unit in enumerate(units) if index not in chosen for case in unit]
        splits.append(Split(tuple(sorted(train)), tuple(sorted(validation))))
    return splits


def _units(cases: Iterable[str], of_patient: Mapping[str, str]) -> list[list[str]]:
    """The cases of each patient, sorted."""
    groups: dict[str, list[str]] = {}
    for case in sorted(cases):
        groups.setdefault(of_patient.get(case, case), []).append(case)
    return list(groups.values())


def load_or_make_splits(
    raw_folder: Path,
    preprocessed_folder: Path,
    cases: Iterable[str],
    observer: Observer = SILENT,
    *,
    known: Iterable[str] | None = None,
    rules: SplitRules | None = None,
) -> list[Split]:
    """The folds of a dataset: a ``splits_final.json`` is obeyed, else ``splits.json`` is read or made.

    Scans of one patient stay together where the raw folder has a ``cases.csv`` that names patients, or a pattern finds
    them in the cases' names.

    ``splits_final.json`` (nnU-Net's format, in the preprocessed or the raw dataset folder) is never changed. When
    cases came since ``splits.json`` was made, each joins the smallest fold and the others stay where they are; those
    that went keep their place in the file, for when they come back. So models which are already trained keep their
    held-out cases. Only preprocessing calls this; whoever uses the folds calls :func:`read_splits`.

    Parameters
    ----------
    cases : iterable of str
        Those that can be used; the folds are cut to them.
    known : iterable of str, optional
        Every case that a ``splits_final.json`` may name; None: `cases`.
    rules : SplitRules, optional
        How folds are drawn, and where new cases go.

    Raises
    ------
    DataError
        When a splits file is malformed or names a case that does not exist, or a ``splits_final.json`` has a patient on
        both sides of a fold.
    """
    cases, rules = sorted(cases), rules or SplitRules()
    splits = read_splits(
        raw_folder, preprocessed_folder, cases if known is None else known, observer, pattern=rules.patient_pattern
    )
    if _given(raw_folder, preprocessed_folder) is not None:
        return present(splits or [], cases)
    path = preprocessed_folder / MADE
    of_patient = patients_of(cases, raw_folder, rules.patient_pattern)
    of_stratum = strata_of(cases, raw_folder, rules.stratify)
    if splits is not None:
        placed = {case for split in splits for case in (*split.train, *split.validation)}
        came, gone = len(set(cases) - placed), len(placed - set(cases))
        if not came and not gone:
            return splits
        followed = _follow(splits, cases, of_patient, of_stratum) if came else splits
        kept = present(followed, cases)
        if sum(bool(split.validation) for split in kept) > 1:
            observer.note(
                f"{path}: {came} cases new, {gone} gone, the others keep their folds (delete it for new ones)"
            )
            if came:
                _write(path, followed)
            return kept
    splits = make_splits(cases, rules.folds, of_patient=of_patient, of_stratum=of_stratum)
    if len(splits) < rules.folds:
        observer.note(_few(len(cases), len(splits), rules.folds))
    if of_stratum and (rare := rare_strata(_units(cases, of_patient), of_stratum, len(splits))):
        observer.note(f"not in every fold, with fewer patients than folds: {'; '.join(rare)}")
    _write(path, splits)
    return splits


def read_splits(
    raw_folder: Path,
    preprocessed_folder: Path,
    known: Iterable[str] | None = None,
    observer: Observer = SILENT,
    *,
    pattern: str | None = None,
) -> list[Split] | None:
    """The folds that are on disk, as they stand there; None where there are none yet. Nothing is written.

    They may name cases that could not be preprocessed or are gone; :func:`present` leaves those out. Folds of ours that
    were drawn before it was known whose scans belong together stay as they are, with a warning.

    Parameters
    ----------
    known : iterable of str, optional
        Every case that a ``splits_final.json`` may name; None: any.
    pattern : str, optional
        :attr:`SplitRules.patient_pattern`.

    Raises
    ------
    DataError
        When a splits file is malformed or names a case that is not known, or a ``splits_final.json`` has a patient on
        both sides of a fold.
    """
    given = _given(raw_folder, preprocessed_folder)
    if given is not None:
        splits = _read(given, known)
        if found := _leaks(splits, raw_folder, pattern):
            raise DataError(found, where=given, mend="keep all scans of a patient on one side")
        observer.note(f"{len(splits)} folds from {given}")
        return splits
    path = preprocessed_folder / MADE
    if not path.is_file():
        return None
    splits = _read(path)
    if found := _leaks(splits, raw_folder, pattern):
        observer.warn(f"{path}: {found}; scores flatter, delete the file for new folds and train again")
    return splits


def _leaks(splits: Sequence[Split], raw_folder: Path, pattern: str | None) -> str | None:
    """The first fold with patients on both sides, in words."""
    everyone = {case for split in splits for case in (*split.train, *split.validation)}
    of_patient = patients_of(everyone, raw_folder, pattern)
    for number, split in enumerate(splits):
        found = leaks(split.train, split.validation, of_patient)
        if found:
            more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            return f"fold {number} trains and validates on {', '.join(found[:_SHOWN])}{more}"
    return None


def present(splits: Iterable[Split], cases: Iterable[str]) -> list[Split]:
    """The same folds with only some of their cases; a fold that loses all keeps its number and validates on nothing."""
    there = set(cases)
    return [
        Split(tuple(c for c in split.train if c in there), tuple(c for c in split.validation if c in there))
        for split in splits
    ]


def _given(raw_folder: Path, preprocessed_folder: Path) -> Path | None:
    return next((f / GIVEN for f in (preprocessed_folder, raw_folder) if (f / GIVEN).is_file()), None)


def _write(path: Path, splits: Iterable[Split]) -> None:
    write_json(path, [{"train": list(split.train), "val": list(split.validation)} for split in splits])


def _few(n_cases: int, n_folds: int, wanted: int) -> str:
    if n_folds == 1:
        return f"{n_cases} case(s) of one patient: one fold, which trains on everything and validates on nothing"
    return f"{n_cases} cases, {n_folds} folds instead of {wanted} (a fold needs a patient to hold out)"


def _read(path: Path, known: Iterable[str] | None = None) -> list[Split]:
    """Read folds in nnU-Net's format; with `known`, each name must be one of them."""
    there = None if known is None else set(known)
    content: Any = read_json(path)
    try:
        splits = [Split(tuple(map(str, fold["train"])), tuple(map(str, fold["val"]))) for fold in content]
    except (TypeError, KeyError):
        raise DataError("is not a list of {'train': [...], 'val': [...]}", where=path) from None
    if not splits:
        raise DataError("has no fold", where=path)
    for number, split in enumerate(splits):
        both = sorted({*split.train} & {*split.validation})
        if both:
            raise DataError(f"fold {number} trains and validates on {', '.join(both[:5])}", where=path)
        unknown = sorted({*split.train, *split.validation} - there) if there is not None else []
        if unknown:
            raise DataError(f"fold {number} names unknown cases: {', '.join(unknown[:5])}", where=path)
    return splits


def _follow(
    splits: Sequence[Split], cases: Sequence[str], of_patient: Mapping[str, str], of_stratum: Mapping[str, str]
) -> list[Split]:
    """The same folds with new cases: each joins its patient's fold, or the one that holds out the fewest present cases
    of its stratum, then of all. Cases that are gone stay where they were.
    """
    held = [list(split.validation) for split in splits]
    there = set(cases)
    placed = {case for fold in held for case in fold}
    for case in cases:
        if case in placed:
            continue
        patient = of_patient.get(case, case)
        at = next((i for i, fold in enumerate(held) if any(of_patient.get(c, c) == patient for c in fold)), None)
        if at is None:
            at = _emptiest(held, there, of_stratum, of_stratum.get(case))
        held[at].append(case)
    everyone = {case for fold in held for case in fold}
    return [Split(tuple(sorted(everyone - set(fold))), tuple(sorted(fold))) for fold in held]


def _emptiest(held: list[list[str]], there: set[str], of_stratum: Mapping[str, str], stratum: str | None) -> int:
    present_in = [there & set(fold) for fold in held]
    alike = [sum(of_stratum.get(case) == stratum for case in fold) for fold in present_in]
    return min(range(len(held)), key=lambda fold: (alike[fold], len(present_in[fold])))

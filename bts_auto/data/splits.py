"""Which cases train and which validate in each fold of a cross-validation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bts_auto.data.case_table import patients
from bts_auto.errors import DataError
from bts_auto.events import SILENT, Observer
from bts_auto.files import read_json, write_json

FOLDS = 5  # nnU-Net v2: five folds, drawn with this seed (generate_crossval_split)
SEED = 12345
GIVEN = "splits_final.json"
MADE = "splits.json"


@dataclass(frozen=True)
class Split:
    """One fold: the cases that train and the cases held out."""

    train: tuple[str, ...]
    validation: tuple[str, ...]


def make_splits(
    cases: Iterable[str], folds: int = FOLDS, seed: int = SEED, *, of_patient: Mapping[str, str] | None = None
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

    Raises
    ------
    DataError
        When there is no case.
    """
    groups: dict[str, list[str]] = {}
    for case in sorted(cases):
        groups.setdefault((of_patient or {}).get(case, case), []).append(case)
    units = list(groups.values())
    if not units:
        raise DataError("there is no case to train with")
    if len(units) == 1:
        return [Split(tuple(units[0]), ())]
    folds = min(folds, len(units))
    order = np.arange(len(units))
    np.random.RandomState(seed).shuffle(order)  # the generator that nnU-Net's splits come from
    splits = []
    for held_out in np.array_split(order, folds):
        chosen = set(held_out.tolist())
        validation = [case for index, unit in enumerate(units) if index in chosen for case in unit]
        train = [case for index, unit in enumerate(units) if index not in chosen for case in unit]
        splits.append(Split(tuple(sorted(train)), tuple(sorted(validation))))
    return splits


def load_or_make_splits(
    raw_folder: Path,
    preprocessed_folder: Path,
    cases: Iterable[str],
    observer: Observer = SILENT,
) -> list[Split]:
    """The folds of a dataset: a ``splits_final.json`` is obeyed, else ``splits.json`` is read or made.

    Scans of one patient stay together where the raw folder has a ``cases.csv`` that names patients.

    ``splits_final.json`` (nnU-Net's format, in the preprocessed or the raw dataset folder) is never changed. When
    cases came or went since ``splits.json`` was made, the others stay in their folds and each new one joins the
    smallest, so that models which are already trained keep their held-out cases.

    Raises
    ------
    DataError
        When a splits file is malformed or names a case that does not exist.
    """
    cases = sorted(cases)
    for folder in (preprocessed_folder, raw_folder):
        if (folder / GIVEN).is_file():
            splits = _read(folder / GIVEN, cases)
            observer.note(f"{len(splits)} folds from {folder / GIVEN}")
            return splits
    path = preprocessed_folder / MADE
    if path.is_file():
        splits = _read(path)
        known = {case for split in splits for case in (*split.train, *split.validation)}
        if known == set(cases):
            return splits
        splits = _follow(splits, cases, patients(raw_folder))
        came, went = len(set(cases) - known), len(known - set(cases))
        observer.note(f"{path}: {came} cases new, {went} gone, the others keep their folds (delete it to draw anew)")
    else:
        splits = make_splits(cases, of_patient=patients(raw_folder))
        if len(splits) < FOLDS:
            observer.note(_few(len(cases), len(splits)))
    write_json(path, [{"train": list(split.train), "val": list(split.validation)} for split in splits])
    return splits


def _few(n_cases: int, n_folds: int) -> str:
    if n_folds == 1:
        return f"{n_cases} case(s) of one patient: one fold, which trains on everything and validates on nothing"
    return f"{n_cases} cases, {n_folds} folds instead of {FOLDS} (a fold needs a patient to hold out)"


def _read(path: Path, cases: Sequence[str] | None = None) -> list[Split]:
    """Read folds in nnU-Net's format; with `cases`, each name must be one of them."""
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
        unknown = sorted({*split.train, *split.validation} - set(cases)) if cases is not None else []
        if unknown:
            raise DataError(f"fold {number} names unknown cases: {', '.join(unknown[:5])}", where=path)
    return splits


def _follow(splits: Sequence[Split], cases: Sequence[str], of_patient: Mapping[str, str]) -> list[Split]:
    """The same folds for other cases: the known ones stay, each new one joins its patient's or the smallest fold."""
    held = [[case for case in split.validation if case in cases] for split in splits]
    placed = {case for fold in held for case in fold}
    for case in cases:
        if case in placed:
            continue
        patient = of_patient.get(case, case)
        at = next((i for i, fold in enumerate(held) if any(of_patient.get(c, c) == patient for c in fold)), None)
        held[min(range(len(held)), key=lambda i: len(held[i])) if at is None else at].append(case)
    folds = [fold for fold in held if fold]
    if len(folds) < 2:
        return make_splits(cases, of_patient=of_patient)
    return [Split(tuple(sorted(set(cases) - set(fold))), tuple(sorted(fold))) for fold in folds]

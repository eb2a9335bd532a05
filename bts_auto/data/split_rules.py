"""What decides the folds besides chance: whose scans stay together, and what every fold shall have its share of."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import Field, field_validator

from bts_auto.data.case_table import FILE, patients, read_case_table
from bts_auto.documents import Document
from bts_auto.errors import DataError

FOLDS = 5  # nnU-Net v2's
_SHOWN = 5


class SplitRules(Document):
    """How the folds of a cross-validation are drawn; the defaults are nnU-Net v2's, with patients kept together."""

    folds: int = Field(FOLDS, ge=2, description="with fewer patients there are as many as patients")
    patient_pattern: str | None = Field(
        None, description="regular expression that finds the patient in a case's name: its first group, or all of it"
    )
    stratify: tuple[str, ...] = Field((), description="columns of cases.csv of whose values every fold gets its share")

    @field_validator("patient_pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"'{pattern}' is no regular expression ({error})") from None
        return pattern


def patients_of(cases: Iterable[str], folder: Path, pattern: str | None = None) -> dict[str, str]:
    """The patient of each case: its ``patient_id`` in cases.csv, else what the pattern finds in its name.

    Without either a case is left out and counts as its own patient.

    Raises
    ------
    DataError
        When there is a pattern that does not find a patient in some names.
    """
    listed = patients(folder)
    if pattern is None:
        return listed
    found, without = dict(listed), []
    for case in cases:
        if case in listed:
            continue
        match = re.search(pattern, case)
        name = match and (match[1] if match.re.groups else match[0])
        if name:
            found[case] = name
        else:
            without.append(case)
    if without:
        raise DataError(
            f"'{pattern}' finds no patient in {', '.join(sorted(without)[:_SHOWN])}",
            where="splits.patient_pattern",
            mend="correct the pattern, or name these patients in cases.csv (column patient_id)",
        )
    return found


def strata_of(cases: Iterable[str], folder: Path, columns: Sequence[str]) -> dict[str, str]:
    """The stratum of each case, ``"HGG, site 3"``: its values in these columns of cases.csv, empty ones too.

    Raises
    ------
    DataError
        When cases.csv has no such column.
    """
    if not columns:
        return {}
    table = read_case_table(folder)
    known = {column for row in table.values() for column in row}
    for column in columns:
        if column not in known:
            has = f"it has {', '.join(sorted(known))}" if known else "there is no such file"
            raise DataError(f"has no column '{column}' to stratify by", where=folder / FILE, mend=has)
    return {case: ", ".join(table.get(case, {}).get(column, "") for column in columns) for case in cases}


def dealt(
    units: Sequence[Sequence[str]], order: Iterable[int], of_stratum: Mapping[str, str], folds: int
) -> list[list[int]]:
    """Deal units (the cases of one patient each) to folds so that every stratum is spread evenly over them.

    Patients with many scans first, otherwise in `order`: each goes to the fold that has the fewest cases of its
    stratum, then the fewest cases in all.

    Returns
    -------
    list of list of int
        For each fold the units that it holds out.
    """
    held: list[list[int]] = [[] for _ in range(folds)]
    counts: list[Counter[str]] = [Counter() for _ in range(folds)]
    for index in sorted(order, key=lambda index: -len(units[index])):
        strata = Counter(of_stratum.get(case, "") for case in units[index])
        at = min(range(folds), key=lambda fold: (sum(counts[fold][one] for one in strata), counts[fold].total()))
        held[at].append(index)
        counts[at].update(strata)
    return held


def rare_strata(units: Sequence[Sequence[str]], of_stratum: Mapping[str, str], folds: int) -> list[str]:
    """The strata with fewer patients than folds, with their numbers, sorted."""
    numbers = Counter(stratum for unit in units for stratum in {of_stratum.get(case, "") for case in unit})
    return [f"{stratum or 'nothing'} ({number})" for stratum, number in sorted(numbers.items()) if number < folds]


def leaks(train: Iterable[str], validation: Iterable[str], of_patient: Mapping[str, str]) -> list[str]:
    """The patients on both sides of a fold, each with a case that trains and one that is held out."""
    trains = {of_patient.get(case, case): case for case in sorted(train, reverse=True)}
    held = {of_patient.get(case, case): case for case in sorted(validation, reverse=True)}
    return [
        f"patient {patient} ({trains[patient]} trains, {held[patient]} is held out)"
        for patient in sorted(trains.keys() & held.keys())
    ]

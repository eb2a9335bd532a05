"""``cases.csv``: what is known of each case beside its images."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from bts_auto.errors import DataError
from bts_auto.files import write_text

FILE = "cases.csv"


def read_case_table(folder: Path) -> dict[str, dict[str, str]]:
    """For each case of a raw dataset folder its columns as text; empty where there is no ``cases.csv``.

    Raises
    ------
    DataError
        When the file has no column ``case``, or repeats a case.
    """
    path = folder / FILE
    if not path.is_file():
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"is no table ({error})", where=path) from None
    table: dict[str, dict[str, str]] = {}
    for row in rows:
        case = (row.pop("case", None) or "").strip()
        if not case:
            raise DataError("every row needs a name in column 'case'", where=path)
        if case in table:
            raise DataError(f"names case {case} twice", where=path)
        table[case] = {key: (value or "").strip() for key, value in row.items() if isinstance(key, str)}
    return table


def write_case_table(folder: Path, rows: Mapping[str, Mapping[str, str]]) -> None:
    """Write ``cases.csv`` from one row for each case; all rows have the same columns."""
    columns = list(next(iter(rows.values()), {}))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", *columns])
    writer.writerows([case, *(row[column] for column in columns)] for case, row in rows.items())
    write_text(folder / FILE, text.getvalue())


def case_weights(folder: Path, column: str, cases: Sequence[str]) -> tuple[float, ...]:
    """The number in a column for each of `cases`, 1 where there is none.

    Raises
    ------
    DataError
        Without such a column, for what is no number from 0 up, and when all of them are 0.
    """
    table = read_case_table(folder)
    if not any(column in row for row in table.values()):
        raise DataError(f"has no column '{column}'", where=folder / FILE)
    weights = [_weight(table.get(case, {}).get(column, ""), case, folder) for case in cases]
    if not any(weights):
        raise DataError(f"column '{column}' is 0 for every case that would train", where=folder / FILE)
    return tuple(weights)


def _weight(text: str, case: str, folder: Path) -> float:
    try:
        value = float(text) if text else 1.0
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise DataError(f"'{text}' of case {case} is no number from 0 up", where=folder / FILE)
    return value


def patients(folder: Path) -> dict[str, str]:
    """The patient of each case that has a ``patient_id``."""
    return {case: row["patient_id"] for case, row in read_case_table(folder).items() if row.get("patient_id")}

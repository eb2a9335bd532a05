"""``cases.csv``: what is known of each case beside its images."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
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


def patients(folder: Path) -> dict[str, str]:
    """The patient of each case that has a ``patient_id``."""
    return {case: row["patient_id"] for case, row in read_case_table(folder).items() if row.get("patient_id")}

"""The journal of a training: JSON lines that only grow, one line an event."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from bts_auto.errors import DataError

JOURNAL = "journal.jsonl"


def _plain(value: Any) -> Any:
    """`value` with NaN and infinity as None, since other readers of JSON choke on them."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


class Journal:
    """Appends records to a file of JSON lines.

    A checkpoint remembers :attr:`offset`; a resumed run cuts the file there, so that no epoch stands in it twice.
    Floats are written so that reading them gives the same bits.
    """

    def __init__(self, path: Path, offset: int | None = None) -> None:
        """Open `path`, cut at `offset` bytes (None: where it ends)."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = path.open("ab")
        if offset is not None and self._file.tell() > offset:
            self._file.truncate(offset)
            self._file.seek(offset)

    @property
    def offset(self) -> int:
        """Bytes written, all of them handed to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def write(self, kind: str, **fields: Any) -> None:
        """Append one record."""
        line = json.dumps({"kind": kind, **_plain(fields)}, allow_nan=False)
        self._file.write(line.encode("utf-8") + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_journal(path: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """The records of a journal, or those of one kind. A last line that was cut off by a crash is left out.

    Raises
    ------
    DataError
        When another line than the last is not JSON.
    """
    lines = path.read_bytes().split(b"\n")
    records = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            records.append(json.loads(line))
        except ValueError:
            if number == len(lines):
                break
            raise DataError(f"line {number} is not valid JSON", where=path) from None
    return [record for record in records if kind is None or record.get("kind") == kind]

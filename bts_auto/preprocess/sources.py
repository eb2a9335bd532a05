"""What a case was made from: content hashes of its files, remembered so that an unchanged file is not read again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bts_auto.errors import BtsError
from bts_auto.files import hash_file, read_json, write_json

# A file written this shortly before it was hashed may change again within the resolution of its time stamp.
_SETTLED_NS = 2_000_000_000


class FileHashes:
    """SHA-256 by path, valid while size and modification time stay the same.

    Parameters
    ----------
    path : Path
        The JSON file that keeps them. Missing or damaged, files are only hashed again.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._entries: dict[str, list[Any]] = {}
        self._changed = False
        try:
            entries = read_json(self.path)
        except BtsError:
            return
        if isinstance(entries, dict):
            self._entries = {name: one for name, one in entries.items() if isinstance(one, list) and len(one) == 3}

    def known(self, files: Iterable[Path]) -> dict[str, str] | None:
        """The hashes of all `files` by path, or None when one of them is new, changed or missing."""
        found = {}
        for file in files:
            entry = self._entries.get(str(file))
            if entry is None or entry[:2] != _stamp(file):
                return None
            found[str(file)] = entry[2]
        return found

    def remember(self, hashes: Mapping[str, tuple[list[int], str]]) -> None:
        """Take over what :func:`hash_files` found."""
        now = time.time_ns()
        for name, (stamp, digest) in hashes.items():
            if now - stamp[1] > _SETTLED_NS and self._entries.get(name) != [*stamp, digest]:
                self._entries[name] = [*stamp, digest]
                self._changed = True

    def keep_only(self, files: Iterable[Path]) -> None:
        """Forget files that are no longer used."""
        used = {str(file) for file in files}
        self._changed |= not self._entries.keys() <= used
        self._entries = {name: entry for name, entry in self._entries.items() if name in used}

    def save(self) -> None:
        """Write the file if anything changed."""
        if self._changed:
            write_json(self.path, self._entries)
            self._changed = False


def hash_files(files: Iterable[Path]) -> dict[str, tuple[list[int], str]]:
    """Hash files.

    Returns
    -------
    dict
        By path: [size, modification time in ns] as they were before reading, and the SHA-256. Missing files are left
        out: reading the case tells what is missing.
    """
    found = {}
    for file in files:
        stamp = _stamp(file)
        if stamp is not None:
            found[str(file)] = (stamp, hash_file(file))
    return found


def _stamp(file: Path) -> list[int] | None:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]

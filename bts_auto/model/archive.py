"""Archives from elsewhere are looked at before anything in them is read."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from bts_auto.errors import ModelError

MAX_BYTES = 64 << 30  # more than any ensemble of five folds of the largest preset
MAX_DOCUMENT_BYTES = 64 << 20  # a JSON document beyond this is no plan
_BLOCK = 1 << 20


@contextlib.contextmanager
def checked_archive(path: Path | str, *, max_bytes: int = MAX_BYTES) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive whose table of contents is harmless.

    Raises
    ------
    ModelError
        When it is missing, truncated or no zip; when a name leads outside, occurs twice, or is a link; when the content
        is encrypted or larger than `max_bytes`. Damage that shows only on reading is reported in the same way.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError("no such file", where=path)
    try:
        with zipfile.ZipFile(path) as archive:
            _check_contents(archive, path, max_bytes)
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ModelError(f"is damaged or no zip archive ({error})", where=path) from None


def _check_contents(archive: zipfile.ZipFile, path: Path, max_bytes: int) -> None:
    seen: set[str] = set()
    for entry in archive.infolist():
        name = entry.filename
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in name or "\0" in name:
            raise ModelError(f"holds a file with the unsafe name '{name}'", where=path)
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise ModelError(f"holds a link, '{name}'", where=path)
        if entry.flag_bits & 1:
            raise ModelError(f"holds an encrypted file, '{name}'", where=path)
        if name.casefold() in seen:
            raise ModelError(f"holds '{name}' twice", where=path)
        seen.add(name.casefold())
    if (total := sum(entry.file_size for entry in archive.infolist())) > max_bytes:
        raise ModelError(f"would unpack to {total} bytes, more than {max_bytes}", where=path)


def read_entry(archive: zipfile.ZipFile, name: str, *, max_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
    """Read a file of the archive that has at most `max_bytes`.

    Raises
    ------
    ModelError
        When it is missing or too large.
    """
    try:
        entry = archive.getinfo(name)
    except KeyError:
        raise ModelError(f"holds no {name}", where=archive.filename) from None
    if entry.file_size > max_bytes:
        raise ModelError(f"{name} has {entry.file_size} bytes, more than {max_bytes}", where=archive.filename)
    return archive.read(entry)


def hash_entry(archive: zipfile.ZipFile, name: str) -> str:
    """SHA-256 of a file of the archive, as hexadecimal, without holding it in memory."""
    digest = hashlib.sha256()
    with archive.open(name) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def unpack(archive: zipfile.ZipFile, name: str, target: Path) -> None:
    """Write a file of the archive to `target`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(name) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, _BLOCK)

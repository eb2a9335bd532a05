"""One process at a time in a fold's folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from bts_auto.errors import BtsError

LOCK_FILE = ".training"


@contextlib.contextmanager
def sole_process(folder: Path) -> Iterator[None]:
    """Hold `folder` inside the block. The system itself lets go of it when the process ends, however it does.

    Where the system has no such locks (Windows, some network file systems), nothing is held.

    Raises
    ------
    BtsError
        When another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("a+") as file:
        if not _take(file):
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise BtsError(
                f"is being trained by another process (number {holder})", where=folder, mend="wait for it or stop it"
            )
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def is_held(folder: Path) -> bool:
    """Whether a process trains in `folder` now; False where the system has no such locks."""
    path = folder / LOCK_FILE
    if not path.exists():
        return False
    with path.open("a+") as file:
        return not _take(file)


def _take(file: IO[str]) -> bool:
    """Lock an open file; False when another process has. Where locks are unknown, it counts as taken."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return True
    return True

"""What a training leaves in its folder while it runs: states and journal; and the stop file that it finds there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bts_auto.events import SILENT, Observer
from bts_auto.train import checkpoint
from bts_auto.train.checkpoint import State
from bts_auto.train.journal import JOURNAL, Journal
from bts_auto.train.stopping import take_stop_file


class Records:
    """The records of the training in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._journal: Journal | None = None

    def tidy(self) -> None:
        """Remove what killed saves have left half-written."""
        checkpoint.discard_leftovers(self._folder)

    def load(self, observer: Observer = SILENT) -> State | None:
        """The newest state that is whole, if there is one."""
        return checkpoint.load_state(self._folder, observer)

    def open(self, offset: int) -> None:
        """Go on with the journal from `offset` bytes on."""
        self._journal = Journal(self._folder / JOURNAL, offset)

    def close(self) -> None:
        """Close the journal."""
        if self._journal is not None:
            self._journal.close()

    def write(self, kind: str, **fields: Any) -> None:
        """Append a line to the journal."""
        assert self._journal is not None
        self._journal.write(kind, **fields)

    def save(self, state: Callable[[int], State]) -> None:
        """Save the state that `state` packs, told where the journal stands, which reaches the disk before it."""
        assert self._journal is not None
        checkpoint.save_state(self._folder, state(self._journal.offset))

    def asked_to_stop(self) -> bool:
        """Whether a stop file was there; it is taken away."""
        return take_stop_file(self._folder)


class ReadOnly(Records):
    """For a process that trains along: another one keeps the records."""

    def tidy(self) -> None:
        pass

    def open(self, offset: int) -> None:
        pass

    def write(self, kind: str, **fields: Any) -> None:
        pass

    def save(self, state: Callable[[int], State]) -> None:
        pass

    def asked_to_stop(self) -> bool:
        return False

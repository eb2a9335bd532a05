"""Being told to stop: signals, the stop file and the time budget."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from bts_auto.train.run import STOP_FILE


class TrainingInterrupted(KeyboardInterrupt):
    """The training was told to stop now; it has been saved and the same call goes on where it stopped.

    A KeyboardInterrupt, so that no handler of errors takes it for one.
    """


class Interruption:
    """Hears SIGINT and SIGTERM while the training runs, so that the step at hand is finished and saved.

    The second signal, and any while nothing is there to be saved (`at_once`), raises KeyboardInterrupt. Off the main
    thread, where Python delivers no signals, nothing is changed; :meth:`request` does the same from code.

    Parameters
    ----------
    echo : float
        Seconds in which further signals are taken for the first one: a launcher of several processes passes on what
        they have heard themselves.
    """

    def __init__(self, echo: float = 0.0) -> None:
        self._echo, self._heard_at = echo, -math.inf
        self.requested = False
        self.at_once = False

    def request(self) -> None:
        """Ask for a stop after the step at hand."""
        self.requested = True

    def _hear(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._heard_at < self._echo:
            return
        if self.requested or self.at_once:
            raise KeyboardInterrupt
        self.requested, self._heard_at = True, now

    @contextlib.contextmanager
    def listening(self) -> Iterator[Interruption]:
        """Handle the signals inside the block, and give them back after it."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._hear) for number in numbers}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def take_stop_file(folder: Path) -> bool:
    """Whether a stop file lies in `folder`; it is removed, so that it stops one run only."""
    path = folder / STOP_FILE
    if not path.exists():
        return False
    path.unlink(missing_ok=True)
    return True


class Stopwatch:
    """Seconds spent on a run, over all its parts; `clock` is any rising number of seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, spent: float = 0.0) -> None:
        self._clock = clock
        self._start = clock() - spent

    def seconds(self) -> float:
        """Seconds spent so far."""
        return self._clock() - self._start

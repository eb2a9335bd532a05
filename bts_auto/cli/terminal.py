"""An observer that draws progress bars and lines on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bts_auto.errors import CaseFailure
from bts_auto.events import Observer, Task

if TYPE_CHECKING:
    from bts_auto.report.live import TrainingView

_SHOW_AFTER_S = 1.0
_LOG_EVERY_S = 30.0


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class _Bar(Task):
    """A tqdm bar; it appears only when the work takes longer than a second."""

    def __init__(self, title: str, total: int | None, unit: str) -> None:
        from tqdm import tqdm

        self._bar: Any = tqdm(
            desc=title,
            total=total,
            unit=f" {unit}",
            delay=_SHOW_AFTER_S,
            file=sys.stderr,
            dynamic_ncols=True,
            leave=True,
        )

    def advance(self, parts: int = 1, **fields: object) -> None:
        if fields:
            self._bar.set_postfix({name: _short(value) for name, value in fields.items()}, refresh=False)
        self._bar.update(parts)

    def __exit__(self, *exc: object) -> None:
        self._bar.close()


class _Lines(Task):
    """One line now and then, for log files where a bar would be noise."""

    def __init__(self, title: str, total: int | None, unit: str) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._done, self._started = 0, time.monotonic()
        self._told = self._started

    def advance(self, parts: int = 1, **fields: object) -> None:
        self._done += parts
        now = time.monotonic()
        last = self._total is not None and self._done >= self._total and self._told > self._started
        if last or now - self._told > _LOG_EVERY_S:
            self._told = now
            of = f"/{self._total}" if self._total is not None else ""
            extra = "".join(f", {name} {_short(value)}" for name, value in fields.items())
            seconds = now - self._started
            print(
                f"{self._title}: {self._done}{of} {self._unit} in {seconds:.0f} s{extra}", file=sys.stderr, flush=True
            )

    def report(self, record: Mapping[str, Any]) -> None:
        from bts_auto.report.live import epoch_line

        self._told = time.monotonic()
        print(epoch_line(record), file=sys.stderr, flush=True)


class TerminalObserver(Observer):
    """Bars on a terminal, plain lines elsewhere; `quiet` leaves only warnings."""

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        self._quiet, self._verbose = quiet, verbose
        self._said: set[str] = set()
        self._view: TrainingView | None = None

    def has_said(self, failure: CaseFailure) -> bool:
        """Whether a failure, or a warning with its words, was shown."""
        return str(failure) in self._said

    def note(self, message: str) -> None:
        if not self._quiet:
            self._line(message)

    def warn(self, message: str) -> None:
        self._said.add(message)
        self._line(f"warning: {message}")

    def failed(self, failure: CaseFailure) -> None:
        self._said.add(str(failure))
        self._line(f"failed: {failure}")

    def detail(self, message: str) -> None:
        if self._verbose:
            self._line(message)

    def task(self, title: str, total: int | None = None, unit: str = "case") -> Task:
        if self._quiet:
            return Task()
        return _Bar(title, total, unit) if sys.stderr.isatty() else _Lines(title, total, unit)

    def training(self, title: str, steps: int | None = None) -> Task:
        if self._quiet or not sys.stderr.isatty():
            return self.task(title, steps, "step")
        from rich.console import Console

        from bts_auto.report.live import TrainingView

        self._view = TrainingView(Console(stderr=True), title, steps)
        return self._view

    def _line(self, message: str) -> None:
        if self._view is not None and self._view.drawing:  # what is drawn is drawn again below the line
            self._view.console.print(message, markup=False, highlight=False, soft_wrap=True)
        elif sys.stderr.isatty():
            from tqdm import tqdm

            tqdm.write(message, file=sys.stderr)
        else:
            print(message, file=sys.stderr, flush=True)

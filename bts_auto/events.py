"""What the library tells the outside while it works. It never prints; an observer decides what is shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from bts_auto.errors import CaseFailure

T = TypeVar("T")


class Task:
    """One piece of work with a known number of parts, opened by :meth:`Observer.task`.

    A context manager. `advance` counts parts; `fields` are short values worth showing beside the bar (loss, case).
    """

    def advance(self, parts: int = 1, **fields: object) -> None:
        """Count `parts` more as done."""

    def report(self, record: Mapping[str, Any]) -> None:
        """Hear of what some of the parts have brought together: an epoch's line of a training's journal."""

    def __enter__(self) -> Task:
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the bar, whether or not the work succeeded."""


class Observer:
    """Hears what happens. This base class is silent; `cli/` has one that draws bars and lines on stderr."""

    def note(self, message: str) -> None:
        """One line of information that a user should see."""

    def warn(self, message: str) -> None:
        """One line about something that is probably not what the user wants."""

    def failed(self, failure: CaseFailure) -> None:
        """A case that could not be done, at the time when that is known; it stands in the result too."""
        self.warn(str(failure))

    def detail(self, message: str) -> None:
        """One line that only someone who asked for more wants to see."""

    def task(self, title: str, total: int | None = None, unit: str = "case") -> Task:
        """Open a progress bar over `total` parts (None: unknown)."""
        return Task()

    def training(self, title: str, steps: int | None = None) -> Task:
        """Open the view of a training of so many steps (None: unknown)."""
        return self.task(title, steps, "step")

    def track(self, items: Iterable[T], title: str, total: int | None = None, unit: str = "case") -> Iterator[T]:
        """Yield from `items` while a bar advances."""
        if total is None and hasattr(items, "__len__"):
            total = len(items)  # type: ignore[arg-type]
        with self.task(title, total, unit) as task:
            for item in items:
                yield item
                task.advance()


SILENT = Observer()

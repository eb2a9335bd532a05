"""A training as it runs, drawn on a terminal: where it stands, and what its last epochs have brought."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bts_auto.events import Task

_REDRAWN_PER_S = 4
_EPOCHS = 8  # rows of the table
_OUTPUTS = 6  # columns of labels and regions; more do not fit a terminal


class TrainingView(Task):
    """Draws until it is left; the last picture stays.

    Parameters
    ----------
    console : Console
        Where to draw. What is printed on it meanwhile appears above.
    title : str
    total : int or None
        Steps in all; None: not known, as under a budget.
    clock : callable
        A rising number of seconds.
    """

    def __init__(
        self, console: Console, title: str, total: int | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.console = console
        self._title, self._total, self._clock = title, total, clock
        self._done = self._before = 0
        self._started = clock()
        self._fields: dict[str, object] = {}
        self._epochs: deque[Mapping[str, Any]] = deque(maxlen=_EPOCHS)
        self._live = Live(get_renderable=self.picture, console=console, refresh_per_second=_REDRAWN_PER_S)

    def __enter__(self) -> TrainingView:
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    @property
    def drawing(self) -> bool:
        """Whether it is on the terminal now."""
        return self._live.is_started

    def advance(self, parts: int = 1, **fields: object) -> None:
        """Count steps; those that are told without anything else were done by an earlier part of the run."""
        self._done += parts
        if not fields:
            self._before += parts
        self._fields = fields or self._fields

    def report(self, record: Mapping[str, Any]) -> None:
        """Take in an epoch's line of the journal."""
        self._epochs.append(record)

    def picture(self) -> RenderableType:
        """All of it as it stands now."""
        return Group(Text(self._title, style="bold"), self._bar(), self._now(), self._table())

    def _bar(self) -> RenderableType:
        elapsed = self._clock() - self._started
        done = self._done - self._before
        per_step = elapsed / done if done else None
        words = [f"step {self._done}" + (f" of {self._total}" if self._total is not None else "")]
        if per_step is not None:
            words.append(f"{per_step:.3g} s a step")
        words.append(f"{_clock_time(elapsed)} so far")
        if self._total is not None and per_step is not None:
            words.append(f"{_clock_time((self._total - self._done) * per_step)} left")
        bar = ProgressBar(total=self._total or 1, completed=self._done if self._total else 0, width=30)
        row = Table.grid(padding=(0, 1))
        row.add_row(bar, Text(", ".join(words)))
        return row

    def _now(self) -> RenderableType:
        memory = self._epochs[-1].get("memory_mb") if self._epochs else None
        shown = {**self._fields, **({"memory": f"{memory} MB"} if memory else {})}
        return Text("   ".join(f"{name} {value}" for name, value in shown.items()) or "the first step ...")

    def _table(self) -> RenderableType:
        if not self._epochs:
            return Text("")
        outputs = list(self._epochs[-1].get("dice", {}))[:_OUTPUTS]
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for name in ("epoch", "loss", "held out", "lr", "seconds", "waiting", *outputs):
            table.add_column(name, justify="right", no_wrap=True)
        for record in self._epochs:
            dice = record.get("dice", {})
            table.add_row(
                str(record["epoch"] + 1),
                _number(record["loss"], ".4f"),
                _number(record.get("validation_loss"), ".4f"),
                _number(record["lr"], ".2g"),
                _number(record["seconds"], ".3g"),
                _number(record["waiting"], ".0%"),
                *(_number(dice.get(name), ".3f") for name in outputs),
            )
        return table


def epoch_line(record: Mapping[str, Any]) -> str:
    """An epoch in one line, for logs."""
    parts = [f"epoch {record['epoch'] + 1}: loss {_number(record['loss'], '.4f')}"]
    if "validation_loss" in record:
        dice = ", ".join(f"{name} {_number(value, '.3f')}" for name, value in list(record["dice"].items())[:_OUTPUTS])
        parts.append(f"held out {_number(record['validation_loss'], '.4f')}, Dice {dice}")
    parts.append(f"lr {_number(record['lr'], '.2g')}")
    parts.append(f"{_number(record['seconds'], '.3g')} s, {_number(record['waiting'], '.0%')} of them waiting")
    parts.append(f"{record['memory_mb']} MB")
    return ", ".join(parts)


def _number(value: Any, form: str) -> str:
    return "-" if value is None or value != value else format(value, form)


def _clock_time(seconds: float) -> str:
    minutes, seconds = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"

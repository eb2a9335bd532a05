"""The curves of a training, drawn from its journal."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from bts_auto.files import atomic_path
from bts_auto.train.journal import JOURNAL, read_journal

PLOT = "progress.png"


def draw_progress(folder: Path) -> Path | None:
    """Write ``progress.png`` in a fold's folder: losses, pseudo Dice, learning rate and seconds per epoch.

    Returns
    -------
    Path or None
        None while the journal has no epoch.
    """
    epochs = read_journal(folder / JOURNAL, "epoch")
    if not epochs:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 10), layout="constrained")
    FigureCanvasAgg(figure)
    losses, rates, seconds = figure.subplots(3, 1, sharex=True, height_ratios=(3, 1, 1))
    _draw_losses(losses, epochs)
    x = [record["epoch"] + 1 for record in epochs]
    rates.plot(x, [record["lr"] for record in epochs], color="tab:purple")
    rates.set_ylabel("learning rate")
    seconds.plot(x, [record["seconds"] for record in epochs], color="tab:gray", label="epoch")
    seconds.plot(
        x, [record["seconds"] * record["waiting"] for record in epochs], color="tab:red", label="waiting for data"
    )
    seconds.set_ylabel("seconds")
    seconds.set_xlabel("epoch")
    seconds.legend(loc="upper right")
    with atomic_path(folder / PLOT) as temporary:
        figure.savefig(temporary, dpi=100)
    return folder / PLOT


def _draw_losses(axes: Any, epochs: list[dict[str, Any]]) -> None:
    x = [record["epoch"] + 1 for record in epochs]
    axes.plot(x, _column(epochs, "loss"), label="training loss", color="tab:blue")
    axes.plot(x, _column(epochs, "validation_loss"), label="loss on held-out patches", color="tab:orange")
    axes.set_ylabel("loss")
    axes.legend(loc="upper left")
    dice = axes.twinx()
    for name in epochs[-1].get("dice", {}):
        values = [_number((record.get("dice") or {}).get(name)) for record in epochs]
        dice.plot(x, values, label=name, linewidth=0.8, alpha=0.7)
    dice.plot(x, _column(epochs, "running_dice"), label="running mean", color="black")
    dice.set_ylabel("Dice on held-out patches")
    dice.set_ylim(0, 1)
    if epochs[-1].get("dice"):
        dice.legend(loc="lower right")


def _column(epochs: list[dict[str, Any]], key: str) -> list[float]:
    return [_number(record.get(key)) for record in epochs]


def _number(value: float | None) -> float:
    return math.nan if value is None else value

"""What a person sees of a training as it runs."""

from __future__ import annotations

import io

from rich.console import Console

from bts_auto.report.live import TrainingView, epoch_line

RECORD = {
    "epoch": 2, "step": 750, "loss": -0.51234, "validation_loss": -0.4, "dice": {"WT": 0.91, "ET": None}, "lr": 0.0098,
    "seconds": 75.2, "waiting": 0.031, "memory_mb": 812,
}  # fmt: skip


class Clock:
    """Told what time it is."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def drawn(view: TrainingView) -> str:
    console = Console(file=io.StringIO(), width=110)
    console.print(view.picture())
    return console.file.getvalue()  # type: ignore[attr-defined]


def make(total: int | None, clock: Clock) -> TrainingView:
    return TrainingView(Console(file=io.StringIO()), "Training 3d_fullres, fold 0", total, clock=clock)


def test_time_left_counts_the_steps_of_this_part_of_the_run_only() -> None:
    clock = Clock()
    view = make(1000, clock)
    view.advance(700)
    clock.now = 200.0
    view.advance(100, epoch=4, loss="-0.5123", lr="0.0098", wait="3%")
    text = drawn(view)
    assert "step 800 of 1000, 2 s a step, 3:20 so far, 6:40 left" in text
    assert "epoch 4   loss -0.5123   lr 0.0098   wait 3%" in text


def test_an_end_that_is_not_known_is_not_foretold() -> None:
    clock = Clock()
    view = make(None, clock)
    clock.now = 4000.0
    view.advance(10, epoch=1)
    text = drawn(view)
    assert "step 10, 400 s a step, 1:06:40 so far" in text
    assert "left" not in text


def test_epochs_stand_in_a_table_with_the_dice_of_each_region() -> None:
    view = make(None, Clock())
    view.report(RECORD)
    lines = drawn(view).splitlines()
    assert "memory 812 MB" in "\n".join(lines)
    head = next(number for number, line in enumerate(lines) if "held out" in line)
    assert lines[head].split() == ["epoch", "loss", "held", "out", "lr", "seconds", "waiting", "WT", "ET"]
    assert lines[head + 1].split() == ["3", "-0.5123", "-0.4000", "0.0098", "75.2", "3%", "0.910", "-"]


def test_a_log_gets_a_line_for_each_epoch() -> None:
    assert epoch_line(RECORD) == (
        "epoch 3: loss -0.5123, held out -0.4000, Dice WT 0.910, ET -, lr 0.0098, 75.2 s, 3% of them waiting, 812 MB"
    )


def test_without_held_out_patches_nothing_is_made_up() -> None:
    record = {name: value for name, value in RECORD.items() if name not in ("validation_loss", "dice")}
    assert "held out" not in epoch_line(record)
    view = make(None, Clock())
    view.report(record)
    assert "WT" not in drawn(view)

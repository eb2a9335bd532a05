"""The loop: learning, resuming, stopping and what it does when the loss goes bad."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bts_auto.errors import BtsError
from bts_auto.events import Observer, Task
from bts_auto.machine import ProcessorWatch
from bts_auto.train.journal import JOURNAL, read_journal
from bts_auto.train.loop import Limits
from bts_auto.train.stopping import STOP_FILE, Interruption, TrainingInterrupted
from tests.train.tiny import batch, epochs, same, stream, tiny_loop, tiny_plan, weights


class Heard(Observer, Task):
    """Keeps what it hears; asks for a stop once `stop_at` steps have been counted."""

    def __init__(self, interruption: Interruption | None = None, stop_at: int | None = None) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self._interruption, self._stop_at, self._steps = interruption, stop_at, 0

    def note(self, message: str) -> None:
        self.notes.append(message)

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def task(self, title, total=None, unit="case"):
        return self

    def advance(self, parts: int = 1, **fields: object) -> None:
        self._steps += parts
        if self._interruption is not None and self._steps == self._stop_at:
            self._interruption.request()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        return None


def interrupted(folder: Path, steps: int, plan=None, **options):
    """Train until `steps` are done, then be told to stop."""
    interruption = Interruption()
    loop = tiny_loop(folder, plan, interruption=interruption, observer=Heard(interruption, steps), **options)
    with pytest.raises(TrainingInterrupted, match=f"after step {steps} of"):
        loop.run()
    return loop


def test_one_batch_is_learnt_by_heart(tmp_path: Path) -> None:
    plan = tiny_plan(epochs=1, iterations=60, optimizer={"name": "adam", "options": {"lr": 0.01}})
    same_batch = lambda name, first: itertools.repeat(batch(0))  # noqa: E731
    loop = tiny_loop(tmp_path, plan, parts={"batches": same_batch, "held_out": same_batch})
    loop.run()
    assert min(epochs(tmp_path)[-1]["dice"].values()) > 0.9


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_a_resumed_run_equals_one_that_was_never_stopped(tmp_path: Path, steps: int) -> None:
    whole = tiny_loop(tmp_path / "whole")
    whole.run()
    interrupted(tmp_path / "parts", steps)
    resumed = tiny_loop(tmp_path / "parts")
    resumed.run()
    assert same(weights(whole), weights(resumed))
    assert epochs(tmp_path / "whole") == epochs(tmp_path / "parts")


def test_dropout_draws_the_same_after_a_resume(tmp_path: Path) -> None:
    plan = tiny_plan(network={"dropout": 0.5})
    tiny_loop(tmp_path / "whole", plan).run()
    interrupted(tmp_path / "parts", 3, plan)
    torch.manual_seed(99)
    tiny_loop(tmp_path / "parts", plan).run()
    assert epochs(tmp_path / "whole") == epochs(tmp_path / "parts")


def test_torch_own_generator_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    tiny_loop(tmp_path).run()
    assert torch.equal(before, torch.random.get_rng_state())


def test_averaged_weights_and_adam_survive_a_resume(tmp_path: Path) -> None:
    plan = tiny_plan(weight_average=0.9, optimizer={"name": "adamw"}, accumulation=2)
    whole = tiny_loop(tmp_path / "whole", plan)
    whole.run()
    interrupted(tmp_path / "parts", 3, plan)
    resumed = tiny_loop(tmp_path / "parts", plan)
    resumed.run()
    assert same(weights(whole), weights(resumed))
    assert not same(weights(whole), dict(whole.objective.modules["network"].state_dict()))


def test_accumulation_equals_the_mean_gradient(tmp_path: Path) -> None:
    """Two halves of a batch, accumulated, step like the whole (per-sample Dice, no batch statistics)."""
    whole, halves = batch(0), [batch(0), batch(0)]
    for sample, half in enumerate(halves):
        halves[sample] = replace(
            half,
            image=half.image[sample : sample + 1],
            mask=half.mask[sample : sample + 1],
            cases=(half.cases[sample],),
        )
    one = tiny_loop(
        tmp_path / "whole",
        tiny_plan(epochs=1, iterations=1),
        parts={"batches": lambda name, first: iter([whole]), "held_out": None},
    )
    two = tiny_loop(
        tmp_path / "halves",
        tiny_plan(epochs=1, iterations=1, accumulation=2),
        parts={"batches": lambda name, first: iter(halves), "held_out": None},
    )
    one.run()
    two.run()
    for name, tensor in weights(one).items():
        torch.testing.assert_close(tensor, weights(two)[name])


def test_the_learning_rate_follows_the_epochs(tmp_path: Path) -> None:
    tiny_loop(tmp_path, tiny_plan(epochs=4)).run()
    expected = [0.01 * (1 - epoch / 4) ** 0.9 for epoch in range(4)]
    assert [record["lr"] for record in epochs(tmp_path)] == pytest.approx(expected)


def poisoned(bad_steps: set[int], visits: list[int]):
    """Batches of which some hold a NaN, the first time or always."""

    def open_stream(name: str, first: int):
        for index in itertools.count(first):
            one = batch(index)
            visits.append(index)
            if index in bad_steps and visits.count(index) <= (1 if len(bad_steps) == 1 else 2):
                one = replace(one, image=one.image * float("nan"))
            yield one

    return open_stream


def test_a_bad_loss_is_retried_at_half_the_learning_rate(tmp_path: Path) -> None:
    observer, visits = Heard(), []
    loop = tiny_loop(
        tmp_path,
        tiny_plan(epochs=6, iterations=1),
        parts={"batches": poisoned({4}, visits)},
        limits=Limits(save_every=0.0),
        observer=observer,
    )
    progress = loop.run()
    assert progress.step == 6
    assert progress.retries == 1
    assert visits == [0, 1, 2, 3, 4, 4, 5]  # back to the last saved state, not to the beginning
    assert "step 5" in observer.warnings[0]
    assert "case_1, case_9" in observer.warnings[0]
    assert [record["epoch"] for record in epochs(tmp_path)] == list(range(6))
    assert epochs(tmp_path)[-1]["lr"] == pytest.approx(0.5 * 0.01 * (1 / 6) ** 0.9)
    assert read_journal(tmp_path / JOURNAL, "retry")[0]["lr_factor"] == 0.5


def test_a_bad_loss_before_the_first_save_starts_over(tmp_path: Path) -> None:
    visits: list[int] = []
    loop = tiny_loop(tmp_path, parts={"batches": poisoned({2}, visits)}, observer=Heard())
    loop.run()
    assert visits == [0, 1, 2, 0, 1, 2, 3, 4, 5]


def test_a_second_bad_loss_names_the_cases_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    visits: list[int] = []
    loop = tiny_loop(
        tmp_path,
        parts={"batches": poisoned({4, 99}, visits)},
        limits=Limits(save_every=0.0),
        observer=Heard(),
    )
    with pytest.raises(BtsError, match=r"the loss is nan at step 5 with the cases case_1, case_9"):
        loop.run()
    assert all(torch.isfinite(tensor).all() for tensor in weights(loop).values())
    resumed = tiny_loop(tmp_path)
    assert resumed.run().step == 6


class Clock:
    """Every look at it takes `tick` seconds."""

    def __init__(self, tick: float) -> None:
        self.now, self.tick = 0.0, tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


def test_the_learning_rate_reaches_its_end_within_the_budget(tmp_path: Path) -> None:
    clock = Clock(0.1)
    plan = tiny_plan(epochs=1000, iterations=10, validation_iterations=0)
    by_step = {"schedule_per": "step"}
    loop = tiny_loop(tmp_path, plan, parts=by_step, limits=Limits(budget=60.0), clock=clock)
    progress = loop.run()
    assert clock.now < 61
    assert 50 < progress.step < 10000
    records = epochs(tmp_path)
    assert records[-1]["fraction"] == 1.0
    assert records[-1]["lr"] < 0.01 * (2 / progress.step) ** 0.9 * 1.5
    assert all(a["lr"] > b["lr"] for a, b in itertools.pairwise(records))


def test_the_time_of_steps_that_a_retry_forgets_is_spent(tmp_path: Path) -> None:
    clock = Clock(0.1)
    plan = tiny_plan(epochs=1000, iterations=10, validation_iterations=0)
    batches = {"batches": poisoned({40}, [])}
    limits = Limits(budget=60.0, save_every=1e9)
    tiny_loop(tmp_path, plan, parts=batches, limits=limits, clock=clock, observer=Heard()).run()
    assert clock.now < 61


def test_the_final_validation_is_kept_out_of_the_budget(tmp_path: Path) -> None:
    clock = Clock(0.1)
    plan = tiny_plan(epochs=1000, iterations=10)
    tiny_loop(tmp_path, plan, limits=Limits(budget=60.0, reserve=lambda seconds: 30.0), clock=clock).run()
    assert clock.now < 31


def test_a_budget_may_be_filled_with_more_steps_than_are_planned(tmp_path: Path) -> None:
    clock = Clock(0.1)
    progress = tiny_loop(tmp_path, limits=Limits(budget=60.0, most_steps=10_000), clock=clock).run()
    assert progress.step > 6
    assert 50 < clock.now < 61
    assert epochs(tmp_path)[-1]["fraction"] == 1.0


def test_a_budget_longer_than_the_training_changes_no_length(tmp_path: Path) -> None:
    assert tiny_loop(tmp_path, limits=Limits(budget=1e6)).run().step == 6


def test_a_stop_file_anneals_and_ends(tmp_path: Path) -> None:
    clock = Clock(0.5)

    def with_stop_file(name: str, first: int):
        for index in itertools.count(first):
            if index == 20:
                (tmp_path / STOP_FILE).touch()
            yield batch(index)

    plan = tiny_plan(epochs=100, iterations=10, validation_iterations=0)
    progress = tiny_loop(tmp_path, plan, parts={"batches": with_stop_file}, clock=clock).run()
    assert 21 < progress.step < 30
    assert not (tmp_path / STOP_FILE).exists()
    assert epochs(tmp_path)[-1]["fraction"] == 1.0
    assert epochs(tmp_path)[-1]["lr"] < 0.005


def test_nothing_held_out_gives_no_dice(tmp_path: Path) -> None:
    tiny_loop(tmp_path, parts={"held_out": None}).run()
    assert all("dice" not in record for record in epochs(tmp_path))


def test_the_best_weights_are_written_with_the_state(tmp_path: Path) -> None:
    kept: list[int] = []
    parts = {"keep_best": lambda weights, epoch: kept.append(epoch)}
    progress = tiny_loop(tmp_path, parts=parts, limits=Limits(save_every=0.0)).run()
    assert kept
    assert kept[-1] == progress.best_epoch


def test_the_loop_uses_its_own_batches_for_each_seed(tmp_path: Path) -> None:
    one = tiny_loop(tmp_path / "a", tiny_plan(seed=1))
    two = tiny_loop(tmp_path / "b", tiny_plan(seed=2), parts={"batches": stream()})
    one.run()
    two.run()
    assert not same(weights(one), weights(two))


def test_a_plateau_anneals_and_ends(tmp_path: Path) -> None:
    """Nothing is learnt at a learning rate of next to nothing, so that the first epoch's Dice is never exceeded."""
    plan = tiny_plan(epochs=100, iterations=2, until_plateau=3, optimizer={"name": "sgd", "options": {"lr": 1e-30}})
    same_batch = {"held_out": lambda name, first: itertools.repeat(batch(0))}
    progress = tiny_loop(tmp_path, plan, parts=same_batch).run()
    assert progress.pace.cooling
    assert progress.epoch == 1 + 3 + 2  # the best, three without a better one, and half of them (rounded up) to anneal
    assert epochs(tmp_path)[-1]["fraction"] == 1.0


def test_a_training_that_gets_better_sees_no_plateau(tmp_path: Path) -> None:
    plan = tiny_plan(epochs=3, iterations=2, until_plateau=3)
    assert not tiny_loop(tmp_path, plan).run().pace.cooling


def test_the_journal_tells_what_others_took_of_the_processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = iter((0.0, 0.5, 0.0))
    monkeypatch.setattr(ProcessorWatch, "taken_by_others", lambda self: next(shares))
    tiny_loop(tmp_path, tiny_plan(epochs=3, iterations=1)).run()
    assert [record["others"] for record in read_journal(tmp_path / JOURNAL, "epoch")] == [0.0, 0.5, 0.0]

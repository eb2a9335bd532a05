"""Two processes that train one network take the steps that one process takes with the whole batch."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bts_auto.errors import PlanError
from bts_auto.files import read_json
from bts_auto.plan.schema import Plan
from bts_auto.train.checkpoint import STATE
from bts_auto.train.distributed import ALONE, Crew
from bts_auto.train.launch import Launch, launched
from tests.train import crew
from tests.train.tiny import NAME, epochs, tiny_plan

_PATIENCE_S = 60.0
_IGNORING = {"background": 0, "edema": 1, "ignore": 2}
# Sums of float32 numbers in another order.
_CLOSE = {"rel": 2e-4, "abs": 2e-5}


def planned(batch_size: int, batch_dice: bool, labels: dict | None = None, **training: Any) -> Plan:
    """A tiny plan with another batch."""
    plan = tiny_plan(labels, **training)
    changed = plan.configurations[NAME] | {"batch_size": batch_size, "batch_dice": batch_dice}
    return plan.model_copy(update={"configurations": {NAME: changed}})


PLANS = {
    "voxels without annotation": planned(3, True, _IGNORING),
    "a Dice for each sample": planned(2, False),
    "one Dice for the batch": planned(2, True),
    "parts of different size": planned(3, True, accumulation=2, gradient_clip=0.1),
    "an average of weights, regions": planned(
        3, False, {"background": 0, "whole": (1, 2), "core": 2}, weight_average=0.9
    ).model_copy(update={"regions_class_order": (1, 2)}),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each plan's folder, trained by two processes."""
    root = tmp_path_factory.mktemp("crew")
    trainings = []
    for name, plan in PLANS.items():
        (root / name).mkdir()
        trainings.append((root / name, plan.model_dump(mode="json")))
    wait(crew.start(2, crew.train_all, trainings))
    return root


def wait(processes: list[Any]) -> None:
    for process in processes:
        process.join(_PATIENCE_S)
        assert process.exitcode == 0


@pytest.mark.parametrize("name", PLANS)
def test_losses_are_those_of_one_process(trained: Path, tmp_path: Path, name: str) -> None:
    crew.loop_of(ALONE, tmp_path, PLANS[name]).run()
    for mine, theirs in zip(epochs(tmp_path), epochs(trained / name), strict=True):
        assert theirs.pop("terms") == pytest.approx(mine.pop("terms"), **_CLOSE)
        assert theirs.pop("dice") == pytest.approx(mine.pop("dice"), **_CLOSE)
        assert theirs.pop("kind") == mine.pop("kind")
        assert theirs == pytest.approx(mine, **_CLOSE)


@contextmanager
def running(folder: Path, plan: Plan) -> Iterator[list[Any]]:
    """Two processes that train, from the first saved state on."""
    processes = crew.start(2, crew.train_until_told, folder, plan.model_dump(mode="json"))
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while not (folder / STATE).exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        yield processes
    finally:
        for process in processes:
            process.kill()


def test_a_signal_to_one_stops_all_and_one_process_goes_on(tmp_path: Path) -> None:
    plan = planned(2, True, epochs=200, until_plateau=None)
    with running(tmp_path, plan) as processes:
        os.kill(processes[1].pid, signal.SIGTERM)
        wait(processes)
    ended = [read_json(tmp_path / f"ended_{rank}.json") for rank in range(2)]
    assert ended[0] == ended[1]
    assert ended[0].startswith("stopped after step")
    loop = crew.loop_of(ALONE, tmp_path, plan)
    loop._restore(_Nothing())
    assert f"after step {loop.progress.step} of" in ended[0]


class _Nothing:
    """Stands in for a stack of things to be closed."""

    def callback(self, close: Any) -> None:
        close()


def test_what_fails_in_one_has_failed_in_all(tmp_path: Path) -> None:
    wait(crew.start(2, crew.fail_in_one, tmp_path))
    for rank in range(2):
        words, ranks, any_flag = read_json(tmp_path / f"heard_{rank}.json")
        assert words == "process 1: OSError: the disk is gone"
        assert (ranks, any_flag) == ([0, 1], True)


def test_samples_are_dealt_out_once() -> None:
    shares = [Crew(Launch(rank, rank, 3, 3)).share(5) for rank in range(3)]
    assert sorted(sample for share in shares for sample in share) == list(range(5))
    assert max(map(len, shares)) == 2


def test_a_batch_smaller_than_the_processes_is_refused() -> None:
    with pytest.raises(PlanError, match="a batch of 2 cannot be shared by 3 processes"):
        Crew(Launch(0, 0, 3, 3)).share(2)


def test_a_process_alone_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert launched() is None
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert launched() is None

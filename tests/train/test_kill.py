"""A training that is killed at any moment goes on as if it had never been stopped."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bts_auto.train.loop import Limits
from tests.train import killable
from tests.train.tiny import epochs, same, tiny_loop, weights

KILLS = 20
MOMENTS = ("half written", "written, nothing renamed", "previous removed", "previous linked", "renamed")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, list]:
    """Weights and epochs of a run that nobody has killed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    loop = tiny_loop(folder, killable.plan())
    loop.run()
    return weights(loop), epochs(folder)


def start(work: Callable[..., None], *args: Any) -> Any:
    """Start `work` in a process of its own, forked from one that has everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.train.killable"])
    process = context.Process(target=work, args=args)
    process.start()
    return process


def reported(report: Path) -> list[int]:
    """The steps in a report, as far as they are written whole."""
    return [int(line) for line in report.read_text().split("\n")[:-1]] if report.exists() else []


def check_equal(folder: Path, undisturbed: tuple[dict, list]) -> None:
    """Finish the run in this process and compare it."""
    loop = tiny_loop(folder, killable.plan(), limits=Limits(save_every=0.0))
    loop.run()
    assert same(weights(loop), undisturbed[0])
    assert epochs(folder) == undisturbed[1]
    assert not list(folder.glob(".writing-*"))


@pytest.mark.slow
def test_killed_at_twenty_random_moments(tmp_path: Path, undisturbed: tuple[dict, list]) -> None:
    folder, draw, kills = tmp_path / "fold", random.Random(7), 0
    folder.mkdir()
    seen = 0
    for attempt in range(KILLS):
        report = tmp_path / f"report_{attempt}"
        process = start(killable.train, folder, report)
        while not reported(report) and process.is_alive():
            time.sleep(0.001)
        process.join(draw.uniform(0, 0.25))
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        steps = reported(report)
        assert steps[0] >= seen - 1, "more than one step was lost"
        seen = steps[-1]
    assert kills >= KILLS // 2, "most attempts ended before they were killed: the run is too short"
    check_equal(folder, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_in_a_save(tmp_path: Path, undisturbed: tuple[dict, list], moment: str) -> None:
    folder, report = tmp_path / "fold", tmp_path / "report"
    folder.mkdir()
    process = start(killable.train_and_die_in_a_save, folder, report, moment, 6)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert 5 <= reported(report)[-1] <= 8
    check_equal(folder, undisturbed)

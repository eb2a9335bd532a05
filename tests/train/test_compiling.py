"""Whether a training is compiled, and what happens where that fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from bts_auto.train import compiling
from bts_auto.train.compiling import WORTH_TRYING_S, compiled_or_plain, decide
from bts_auto.train.objectives.base import At
from bts_auto.train.objectives.multitask import MultiTask
from bts_auto.train.objectives.segmentation import Segmentation
from bts_auto.train.options import MultiTaskOptions, SegmentationOptions
from tests.train.tiny import NAME, batch, tiny_plan

LONG = 10 * WORTH_TRYING_S


class Machine:
    """Pretends to run steps: the first compiled one takes `first` seconds."""

    def __init__(self, plain: float, compiled: float, first: float = 30.0) -> None:
        self._plain, self._compiled, self._first = plain, compiled, first

    def __call__(self, *, compiled: bool) -> tuple[float, float]:
        return (self._first, self._compiled) if compiled else (self._plain, self._plain)


def untried(*, compiled: bool) -> tuple[float, float]:
    pytest.fail("tried")


def broken(*, compiled: bool) -> tuple[float, float]:
    raise RuntimeError("No working C++ compiler found\n\nSet TORCHDYNAMO_VERBOSE=1 for more")


@pytest.mark.parametrize(
    ("machine", "steps", "compiled"),
    [
        (Machine(1.0, 0.9), 10_000, True),
        (Machine(1.0, 0.99), 100_000, False),  # no more than noise
        (Machine(1.0, 0.9), 200, False),  # saves 20 s, compiling takes 29
        (Machine(1.0, 1.4), 10_000, False),
    ],
)
def test_compiling_has_to_pay(machine: Machine, steps: int, compiled: bool) -> None:
    assert decide("auto", steps, LONG, machine).compiled is compiled


@pytest.mark.parametrize(("wanted", "seconds"), [("off", LONG), ("auto", 60.0), ("auto", None)])
def test_nothing_is_tried_where_the_answer_is_known(wanted: Any, seconds: float | None) -> None:
    assert not decide(wanted, 1000, seconds, untried).compiled


def test_on_is_obeyed_however_slow() -> None:
    assert decide("on", 1, 1.0, Machine(1.0, 5.0)).compiled


@pytest.mark.parametrize("wanted", ["on", "auto"])
def test_where_it_does_not_work_one_line_says_so(wanted: Any) -> None:
    verdict = decide(wanted, 1000, LONG, broken)
    assert not verdict.compiled
    assert verdict.reason.endswith("does not work here: No working C++ compiler found")


def test_a_compiled_call_that_fails_is_made_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fail(value: int) -> int:
        calls.append(value)
        raise RuntimeError("the compiler is gone")

    monkeypatch.setattr(compiling, "torch_compiled", lambda function: fail)
    heard: list[str] = []
    guarded = compiled_or_plain(heard.append)(lambda value: 2 * value)
    assert [guarded(1), guarded(2)] == [2, 4]
    assert calls == [1]
    assert heard == ["going on without torch.compile, which has failed: the compiler is gone"]


def test_an_error_of_the_network_itself_stays_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def network(value: int) -> int:
        raise ValueError("wrong channels")

    monkeypatch.setattr(compiling, "torch_compiled", lambda function: network)
    with pytest.raises(ValueError, match="wrong channels"):
        compiled_or_plain(lambda line: pytest.fail(line))(network)(1)


@pytest.mark.parametrize(
    ("make", "options", "calls"),
    [(Segmentation, SegmentationOptions(), 1), (MultiTask, MultiTaskOptions(presence="edema", hidden=4, latent=2), 3)],
)
def test_every_pass_of_a_step_goes_through_the_wrapper(make: Any, options: Any, calls: int) -> None:
    """A stand-in for the compiler counts: one forward pass, or two encodings and one decoding."""
    plan, counted = tiny_plan(), []

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args: (counted.append(function), function(*args))[1]

    objective = make(options, plan=plan, configuration_name=NAME, labels=plan.label_set())
    names = list(objective.modules["network"].state_dict())
    objective.compile(wrap)
    next(objective.phases(dict.fromkeys(objective.streams, batch(0)), At(0, 0.0)))
    assert len(counted) == calls
    assert list(objective.modules["network"].state_dict()) == names


@pytest.mark.slow
def test_a_compiled_network_gives_the_same_loss() -> None:
    plan = tiny_plan()
    losses = []
    for compiled in (False, True):
        objective = Segmentation(SegmentationOptions(), plan=plan, configuration_name=NAME, labels=plan.label_set())
        if compiled:
            objective.compile(compiled_or_plain(lambda line: pytest.skip(line)))
        phase = next(objective.phases({"labelled": batch(0)}, At(0, 0.0)))
        phase.loss.backward()
        losses.append(phase.loss.detach())
    torch.testing.assert_close(losses[1], losses[0])

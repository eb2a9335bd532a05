"""The choice of number format, with trials that only pretend to compute."""

from __future__ import annotations

import pytest
import torch

from bts_auto.train import precision as module
from bts_auto.train.precision import Precision, choose_precision, trial_patch

CPU = torch.device("cpu")


class Machine:
    """A clock that a trial moves on by what each format takes."""

    def __init__(self, seconds: dict[str, float], losses: dict[str, float]) -> None:
        self.now, self.seconds, self.losses = 0.0, seconds, losses

    def clock(self) -> float:
        return self.now

    def trial(self, precision: Precision) -> torch.Tensor:
        self.now += self.seconds[precision.name]
        return torch.tensor(self.losses[precision.name])


@pytest.mark.parametrize(
    ("seconds", "loss", "chosen", "why"),
    [
        (0.5, 1.001, "bf16", "2.00 times as fast"),
        (0.95, 1.0, "fp32", "not faster"),
        (0.5, 1.1, "fp32", "move the loss"),
        (0.5, float("nan"), "fp32", "move the loss"),
    ],
)
def test_bf16_has_to_be_faster_and_to_agree(
    monkeypatch: pytest.MonkeyPatch, seconds: float, loss: float, chosen: str, why: str
) -> None:
    monkeypatch.setattr(module, "cpu_has_bf16", lambda: True)
    machine = Machine({"fp32": 1.0, "bf16": seconds}, {"fp32": 1.0, "bf16": loss})
    choice = choose_precision("auto", CPU, machine.trial, clock=machine.clock)
    assert choice.name == chosen
    assert why in choice.reason


def test_nothing_is_tried_where_the_cpu_has_no_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cpu_has_bf16", lambda: False)
    assert choose_precision("auto", CPU, lambda precision: pytest.fail("tried")).name == "fp32"


def test_the_plan_s_word_is_law() -> None:
    assert choose_precision("bf16", CPU, lambda precision: pytest.fail("tried")).name == "bf16"


def test_a_trial_patch_keeps_whole_strides() -> None:
    strides = ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    patch = trial_patch((48, 320, 320), strides)
    assert all(size % divisor == 0 for size, divisor in zip(patch, (8, 16, 16), strict=True))
    assert patch == (48, 64, 64)
    assert trial_patch((16, 16, 16), strides) == (16, 16, 16)

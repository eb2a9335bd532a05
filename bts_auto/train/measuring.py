"""What a training measures on its machine before it begins: number format, seconds of a step, whether to compile."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bts_auto.events import Observer
from bts_auto.plan.expect import duration
from bts_auto.train import compiling
from bts_auto.train.assembly import Assembly
from bts_auto.train.compiling import Verdict, decide
from bts_auto.train.feed import Feed
from bts_auto.train.precision import Choice, Format, Precision
from bts_auto.train.pretrained import pretrained_state, take_weights
from bts_auto.train.step import NotFinite, Stepper
from bts_auto.train.trial import time_steps, try_precisions

# What is tried against the usual way is taken when its steps last at most this share.
_FASTER = 0.97


@dataclass(frozen=True)
class Measured:
    """Choices that were measured when a run began, so that a resumed run repeats them.

    Attributes
    ----------
    precision : {"fp32", "bf16", "fp16"}
    reason : str
        Why this format.
    compiled : bool
        Whether torch.compile pays, where the plan leaves that open.
    augment_on_device : bool
        Whether batches are augmented where the network is, where the plan leaves that open.
    step_seconds : float or None
        What a step takes; None: not known.
    """

    precision: Format
    reason: str
    compiled: bool = False
    augment_on_device: bool = False
    step_seconds: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As it stands in the record of the run."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Measured:
        """From the record of the run."""
        return cls(**values)


class Measuring:
    """Tries what a training is going to do, with weights that are thrown away."""

    def __init__(self, assembly: Assembly, observer: Observer) -> None:
        self._assembly, self._observer = assembly, observer

    def measure(self) -> Measured:
        """Choose, and say what was chosen."""
        assembly = self._assembly
        if assembly.job.pretrained is not None:
            self._note_pretrained(assembly.job.pretrained)
        choice = self.precision()
        self._observer.note(f"training on {assembly.device} in {choice.name}: {choice.reason}")
        seconds = self.step_seconds(choice.name)
        on_device = self.augmentation(choice.name)
        verdict = self.compilation(choice.name, seconds, on_device)
        if verdict.reason:
            self._observer.note(verdict.reason)
        return Measured(choice.name, choice.reason, verdict.compiled, on_device, verdict.step_seconds or seconds)

    def _note_pretrained(self, path: Path) -> None:
        left_out = take_weights(self._assembly.objective().modules["network"], pretrained_state(path))
        if left_out:
            self._observer.warn(f"not taken from {path.name}: {'; '.join(left_out)}")
        else:
            self._observer.note(f"all weights taken from {path.name}")

    def precision(self) -> Choice:
        """Try the number formats on noise."""
        assembly = self._assembly
        return try_precisions(assembly.objective(), assembly.configuration, assembly.job.labels, assembly.device)

    def step_seconds(self, precision: Format) -> float | None:
        """Seconds of a step: as measured earlier, else the mean of a few real ones;
        None where they fail (the training itself retries and reports that)."""
        if self._assembly.job.step_seconds is not None:
            return self._assembly.job.step_seconds
        try:
            return self._time(precision)[1]
        except NotFinite:
            return None

    def augmentation(self, precision: Format) -> bool:
        """Whether batches are augmented where the network is: as the plan says, else where steps are faster.

        Beside a network on the CPU the threads that read do it: they have the same cores.
        """
        wanted, device = self._assembly.training.augmentation_device, self._assembly.device
        if wanted != "auto" or device.type == "cpu":
            return wanted == "device"
        try:
            (_, beside), (_, there) = (self._time(precision, on_device=chosen) for chosen in (False, True))
        except (NotFinite, torch.OutOfMemoryError):
            return False
        words = f"{duration(there)} a step with augmentation on the {device.type}, {duration(beside)} on the CPU"
        self._observer.note(words)
        return there < _FASTER * beside

    def compilation(self, precision: Format, step_seconds: float | None, on_device: bool = False) -> Verdict:
        """Whether to compile; see :func:`bts_auto.train.compiling.decide`."""
        training, budget = self._assembly.training, self._assembly.job.budget
        steps = training.epochs * training.iterations
        seconds = None if step_seconds is None else steps * step_seconds
        if budget is not None and seconds is not None and seconds > budget:
            steps, seconds = int(steps * budget / seconds), budget

        def time(*, compiled: bool) -> tuple[float, float]:
            return self._time(precision, compiled=compiled, on_device=on_device)

        return decide(training.compile, steps, seconds, time)

    def _time(self, precision: Format, *, compiled: bool = False, on_device: bool = False) -> tuple[float, float]:
        assembly = self._assembly
        objective = assembly.objective()
        if compiled:
            objective.compile(compiling.torch_compiled)
        for module in objective.modules.values():
            module.train()
        stepper = Stepper(objective, Precision(precision, assembly.device), assembly.training.gradient_clip)
        feed = Feed(partial(assembly.open_stream, on_device=on_device), objective.streams, 0, assembly.device)
        try:
            batches = (feed.next() for _ in itertools.count())
            return time_steps(stepper, batches, assembly.training.accumulation, assembly.device)
        finally:
            feed.close()

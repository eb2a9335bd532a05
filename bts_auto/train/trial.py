"""Real training steps with weights that are thrown away: what a step takes in time and memory.

Run as ``python -m bts_auto.train.trial`` it reads a question as a line of JSON from its input, prints the answer as
one, and waits for the next. A process of its own gives back all of its memory, and when it asks for too much nothing
but itself is killed.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bts_auto import machine, registry
from bts_auto.data.labels import Labels
from bts_auto.plan.schema import Plan, SegmentationConfiguration
from bts_auto.predict.engine import choose_device
from bts_auto.preprocess.store import CaseStore
from bts_auto.train.feed import to_device
from bts_auto.train.loader import Batch, BatchLoader
from bts_auto.train.machine import loader_workers, memory_mb
from bts_auto.train.maps import MapMaker
from bts_auto.train.objectives.base import At, Objective
from bts_auto.train.precision import Choice, Precision, choose_precision, trial_patch
from bts_auto.train.step import Stepper


@dataclass(frozen=True)
class Timing:
    """How long steps are timed: until there are so many, or until so many seconds are spent.

    Attributes
    ----------
    warm_up : int
        Steps before, at least one, which are slower and do not count.
    one_is_enough : float
        A first step that takes longer than this is taken for the others too.
    """

    steps: int = 6
    seconds: float = 6.0
    warm_up: int = 1
    one_is_enough: float = math.inf


_USUAL = Timing()
_QUICK = Timing(seconds=2.0, one_is_enough=5.0)
# Loader workers fill their queues beside the first steps, which a training of some length does not feel.
_ON_STORED_CASES = Timing(steps=30, seconds=20.0, warm_up=4)
# What plain RuntimeErrors of torch and its libraries say where memory is not to be had.
_OUT_OF_MEMORY = ("out of memory", "allocate memory", "ALLOC_FAILED")


def random_batch(
    configuration: SegmentationConfiguration,
    labels: Labels,
    channels: int,
    device: torch.device,
    *,
    patch: tuple[int, ...] | None = None,
    size: int | None = None,
) -> Batch:
    """A batch of noise; `patch` and `size` None: the configuration's."""
    generator = torch.Generator().manual_seed(0)
    patch, size = patch or configuration.patch_size, size or configuration.batch_size
    values = torch.tensor(labels.known_values, dtype=torch.int16)
    mask = values[torch.randint(len(values), (size, 1, *patch), generator=generator)]
    image = torch.randn(size, channels, *patch, generator=generator)
    maps = MapMaker(configuration, labels)(mask)
    return to_device(Batch(image, mask, ("",) * size, 0, maps=maps), device)


def input_channels(objective: Objective) -> int:
    """Channels that the objective's network takes."""
    return next(p for p in objective.modules["network"].parameters() if p.ndim > 2).shape[1]


def try_precisions(
    objective: Objective, configuration: SegmentationConfiguration, labels: Labels, device: torch.device
) -> Choice:
    """Choose the number format by passes forth and back on noise, without a step."""
    patch = trial_patch(configuration.patch_size, configuration.strides)
    batch = random_batch(configuration, labels, input_channels(objective), device, patch=patch, size=1)

    def trial(precision: Precision) -> Tensor:
        # The same draws (dropout, latents) every time, or the formats' losses could not be compared.
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(0)
            with precision.autocast():
                phase = next(objective.phases(dict.fromkeys(objective.streams, batch), At(0, 0.0)))
        phase.loss.backward()
        for optimizer in objective.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        return phase.loss.detach()

    return choose_precision(configuration.training.precision, device, trial)


def time_steps(
    stepper: Stepper,
    batches: Iterator[Mapping[str, Any]],
    accumulation: int,
    device: torch.device,
    timing: Timing = _USUAL,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, float]:
    """Seconds of the first optimiser step, and the mean of those that count, their batches included."""

    def step() -> None:
        stepper.run([next(batches) for _ in range(accumulation)], At(0, 0.0))
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    begin = clock()
    step()
    start = clock()
    first, done = start - begin, 0
    if first > timing.one_is_enough:
        return first, first
    for _ in range(timing.warm_up - 1):
        step()
        start = clock()
    while done < timing.steps and (not done or clock() - start < timing.seconds):
        step()
        done += 1
    return first, (clock() - start) / done


@dataclass(frozen=True)
class Question:
    """What is to be tried: a configuration of a plan, on noise or (with a store) on preprocessed cases.

    `quick`: some seconds at most, one step where that takes longer.
    """

    plan: Plan
    configuration: str
    device: str
    store: Path | None
    cases: tuple[str, ...]
    quick: bool

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Question:
        """Read a question."""
        store = None if values["store"] is None else Path(values["store"])
        plan = Plan.from_values(values["plan"])
        return cls(plan, values["configuration"], values["device"], store, tuple(values["cases"]), values["quick"])


def answer(question: Question) -> dict[str, Any]:
    """Try it; see :class:`bts_auto.steps.trials.Tried`, and whether that was on an NVIDIA GPU."""
    device = choose_device(question.device)
    configuration, labels = question.plan.configuration(question.configuration), question.plan.label_set()
    before = _forget_peak(device)
    chosen = configuration.training.objective
    objective: Objective = registry.component("objective", chosen.name)(
        registry.options("objective", chosen.name, chosen.options),
        plan=question.plan,
        configuration_name=question.configuration,
        labels=labels,
        device=device,
    )
    choice = try_precisions(objective, configuration, labels, device)
    stepper = Stepper(objective, Precision(choice.name, device), configuration.training.gradient_clip)
    for module in objective.modules.values():
        module.train()
    with _batches(question, configuration, labels, objective, device) as source:
        streams = (dict.fromkeys(objective.streams, batch) for batch in source)
        accumulation, watch = configuration.training.accumulation, machine.ProcessorWatch()
        timing = _QUICK if question.quick else _USUAL if question.store is None else _ON_STORED_CASES
        _, seconds = time_steps(stepper, iter(streams), accumulation, device, timing)
    return {
        "step_seconds": seconds,
        "precision": choice.name,
        "peak_bytes": _peak_bytes(device, before),
        "others": round(watch.taken_by_others(), 2),
        "on_gpu": device.type == "cuda",
    }


@contextlib.contextmanager
def _batches(
    question: Question,
    configuration: SegmentationConfiguration,
    labels: Labels,
    objective: Objective,
    device: torch.device,
) -> Iterator[Iterator[Any]]:
    """Batches of noise, or of stored cases as a training draws them."""
    if question.store is None:
        yield itertools.repeat(random_batch(configuration, labels, input_channels(objective), device))
        return
    store, workers = CaseStore(question.store), loader_workers(device, configuration.batch_size)
    with BatchLoader(store, question.cases, configuration, labels, 0, workers=workers) as loader:
        yield (to_device(batch, device) for batch in loader)


def _resident_bytes(field: str) -> int:
    """Memory of this process: ``VmRSS`` now, ``VmHWM`` at most so far.

    From the kernel's own page, since getrusage's peak includes what the parent held when it started this process.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) << 10
    except (OSError, StopIteration):
        return memory_mb(torch.device("cpu")) << 20


def _forget_peak(device: torch.device) -> int:
    """Start counting the peak of memory anew; gives back what the process holds now."""
    gc.collect()
    machine.return_freed_memory()
    if device.type == "cuda":
        torch.cuda.init()  # nothing can be reset before
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):  # the kernel's word for: the peak is what there is now
        Path("/proc/self/clear_refs").write_text("5")
    return _resident_bytes("VmRSS")


def _peak_bytes(device: torch.device, before: int) -> int:
    """Peak of the memory that is trained in: the GPU's, else what the process has taken since `before`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return max(0, _resident_bytes("VmHWM") - before)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means that memory was not to be had."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(words in str(error) for words in _OUT_OF_MEMORY)


def _answered(question: Question) -> dict[str, Any]:
    """The answer, or that there is not enough memory for it."""
    try:
        return answer(question)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        words = str(error)
        return {"out_of_memory": words.splitlines()[0] if words else "out of memory"}


def main() -> int:
    """Answer questions until there are no more; memory is kept as a training keeps it, unless that is not wanted."""
    if "--return-memory" not in sys.argv[1:]:
        machine.keep_freed_memory()
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever else prints has no place among answers
        for line in sys.stdin:
            print(json.dumps(_answered(Question.from_json(json.loads(line)))), file=answers, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What a training is put together from: its objective, its streams of batches, its schedule."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from bts_auto import registry
from bts_auto.events import Observer
from bts_auto.losses.across import HERE, Across
from bts_auto.preprocess.store import CaseStore
from bts_auto.train.choice import VolumeJudge
from bts_auto.train.compiling import compiled_or_plain
from bts_auto.train.distributed import ALONE, Processes
from bts_auto.train.job import Fold
from bts_auto.train.loader import BatchLoader
from bts_auto.train.loop import Loop
from bts_auto.train.machine import loader_workers
from bts_auto.train.objectives.base import UNLABELLED, Objective
from bts_auto.train.parts import Limits, Parts
from bts_auto.train.precision import Format, Precision
from bts_auto.train.pretrained import pretrained_state, take_weights
from bts_auto.train.records import Records
from bts_auto.train.stopping import Interruption

# Draws for held-out patches and for scans without annotation come from seeds of their own.
_HELD_OUT, _WITHOUT_LABELS = 1, 2


def _seed_of(seed: int, what: int) -> int:
    return int(np.random.SeedSequence((seed, what)).generate_state(1)[0])


class Assembly:
    """Makes one process's parts of one training.

    Raises
    ------
    BtsError
        When there is no GPU or no sample of a batch for this process.
    """

    def __init__(self, job: Fold, observer: Observer, processes: Processes = ALONE) -> None:
        self.job, self._observer, self.processes = job, observer, processes
        self.configuration = job.configuration
        self.training = self.configuration.training
        batch = self.configuration.batch_size
        self._samples, self.across = processes.share(batch), processes.across(batch)
        self.device = processes.device(job.device)

    def objective(self, *, compiled: bool = False, across: Across = HERE) -> Objective:
        """The objective with fresh weights, or those that it starts from; `across` reaches the rest of the batch."""
        job, chosen = self.job, self.training.objective
        options = registry.options("objective", chosen.name, chosen.options)
        objective: Objective = registry.component("objective", chosen.name)(
            options,
            plan=job.plan,
            configuration_name=job.configuration_name,
            labels=job.labels,
            device=self.device,
            across=across,
        )
        if job.pretrained is not None:
            take_weights(objective.modules["network"], pretrained_state(job.pretrained))
        if compiled:
            objective.compile(compiled_or_plain(self._observer.warn))
        return objective

    def parts(self, *, compiled: bool = False, on_device: bool = False) -> Parts:
        """What a loop computes with; what it tells and keeps is not among it."""
        options = registry.options("schedule", self.training.schedule.name, self.training.schedule.options)
        # A run that a budget cuts short may have few epochs left: by steps, the learning rate still reaches its end.
        return Parts(
            objective=lambda: self.objective(compiled=compiled, across=self.across),
            batches=partial(self.open_stream, on_device=on_device),
            held_out=self.open_held_out if self.job.validation_cases else None,
            schedule=registry.component("schedule", self.training.schedule.name)(options),
            schedule_per="step" if self.job.budget is not None else options.per,
            judge=self._volume_judge(),
        )

    def loop(
        self,
        parts: Parts,
        precision: Format,
        records: Records,
        *,
        limits: Limits | None = None,
        interruption: Interruption,
        clock: Callable[[], float] = time.monotonic,
    ) -> Loop:
        """The loop of this process."""
        job = self.job
        return Loop(
            parts,
            self.training,
            job.folder,
            device=self.device,
            precision=Precision(precision, self.device),
            limits=limits,
            observer=self._observer,
            title=f"Training {job.configuration_name}, fold {job.fold}",
            interruption=interruption,
            processes=self.processes,
            share=self.across.share,
            records=records,
            clock=clock,
        )

    def _volume_judge(self) -> VolumeJudge | None:
        job, choice = self.job, self.training.model_choice
        if choice is None or not job.validation_cases:
            return None
        return VolumeJudge(
            job.plan,
            job.configuration_name,
            job.labels,
            sorted(job.validation_cases)[: choice.cases],
            store=job.store,
            previous=job.previous,
            device=self.device,
        )

    def open_stream(self, stream: str, first: int, *, on_device: bool = False) -> Iterable[Any]:
        """Training batches of a stream from this number on; augmented where they are read, or `on_device`."""
        job, seed = self.job, self.training.seed
        if stream != UNLABELLED:
            return self._open(job.training_cases, seed, True, first, weights=job.weights, on_device=on_device)
        cases = job.training_cases if job.unlabelled is None else tuple(job.unlabelled.cases())
        return self._open(cases, _seed_of(seed, _WITHOUT_LABELS), True, first, job.unlabelled, on_device=on_device)

    def open_held_out(self, stream: str, first: int) -> Iterable[Any]:
        """Batches of held-out patches."""
        return self._open(self.job.validation_cases, _seed_of(self.training.seed, _HELD_OUT), False, first)

    def _open(
        self,
        cases: tuple[str, ...],
        seed: int,
        augment: bool,
        first: int,
        store: CaseStore | None = None,
        weights: tuple[float, ...] | None = None,
        on_device: bool = False,
    ) -> Iterable[Any]:
        job = self.job
        workers = job.workers
        if workers is None:
            workers = loader_workers(self.device, len(self._samples), self.processes.local_size)
        return BatchLoader(
            store or job.store,
            cases,
            self.configuration,
            job.labels,
            seed,
            workers=workers,
            augment=augment,
            share=self._samples,
            device=self.device if on_device else None,
            start_step=first,
            previous=job.previous,
            weights=weights,
            pin_memory=self.device.type == "cuda",
            observer=self._observer,
        )

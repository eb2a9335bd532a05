"""One call of a training: choose what has to be measured, run the loop, ship the weights, validate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bts_auto import registry
from bts_auto.events import Observer
from bts_auto.model.fold import FoldRecord, TrainedFold, write_fold
from bts_auto.model.weights import save_weights
from bts_auto.train import checkpoint, progress_plot
from bts_auto.train import run as runs
from bts_auto.train.loader import BatchLoader
from bts_auto.train.loop import Limits, Loop, Parts
from bts_auto.train.machine import choose_device, loader_workers
from bts_auto.train.objectives.base import At, Objective
from bts_auto.train.precision import Choice, Precision, choose_precision, trial_patch
from bts_auto.train.pretrained import pretrained_state, take_weights
from bts_auto.train.progress import Progress
from bts_auto.train.stopping import Interruption
from bts_auto.train.trainer import Fold, TrainingResult
from bts_auto.train.validate import patches_to_visit, validate_fold

BEST = "checkpoint_best.safetensors"
# Draws for held-out patches come from a seed of their own.
_HELD_OUT = 1
# Mirrored copies are left out of the final validation where they would take more than this share of a budget.
_TTA_SHARE = 0.25
# Tiles in evaluation cost more than the pure forward pass: reading, joining, resampling, writing.
_VALIDATION_OVERHEAD = 1.5
_LARGEST_RESERVE = 0.5


def train(
    job: Fold,
    run: runs.Run | None,
    settings: Mapping[str, Any],
    *,
    validate: bool,
    save_every: float,
    observer: Observer,
    clock: Callable[[], float],
) -> TrainingResult:
    """Do what is left of `job`; see :func:`bts_auto.train.trainer.train_fold`."""
    start = clock()
    session = _Session(job, observer, clock)
    if run is None or run.finished is None:
        run = session.begin(run, settings)
        with session.interruption.listening():
            run = session.train(run, save_every)
            session.interruption.at_once = True
            scores = session.validate(validate, start)
    else:
        scores = session.validate(validate, start)
    assert run.finished is not None
    failures = tuple(scores.failures) if scores is not None else ()
    return TrainingResult(job.folder, **run.finished, scores=scores, failures=failures)


class _Session:
    def __init__(self, job: Fold, observer: Observer, clock: Callable[[], float]) -> None:
        self._job, self._observer, self._clock = job, observer, clock
        self._configuration = job.plan.configuration(job.configuration_name)
        self._device = choose_device(job.device)
        self._seconds_per_patch: float | None = None
        self.interruption = Interruption()

    # -------------------------------------------------------------------------------------------------------- beginning

    def begin(self, run: runs.Run | None, settings: Mapping[str, Any]) -> runs.Run:
        """The record of the run, on the disk before the first step."""
        if run is not None:
            return run
        if self._job.pretrained is not None:
            self._note_pretrained(self._job.pretrained)
        choice = self._choose_precision()
        self._observer.note(f"training on {self._device} in {choice.name}: {choice.reason}")
        run = runs.Run(dict(settings), measured={"precision": choice.name, "reason": choice.reason})
        self._job.folder.mkdir(parents=True, exist_ok=True)
        run.save(self._job.folder)
        return run

    def _objective(self) -> Objective:
        job, chosen = self._job, self._configuration.training.objective
        options = registry.options("objective", chosen.name, chosen.options)
        objective: Objective = registry.component("objective", chosen.name)(
            options, plan=job.plan, configuration_name=job.configuration_name, labels=job.labels, device=self._device
        )
        if job.pretrained is not None:
            take_weights(objective.modules["network"], pretrained_state(job.pretrained))
        return objective

    def _note_pretrained(self, path: Path) -> None:
        left_out = take_weights(self._objective().modules["network"], pretrained_state(path))
        if left_out:
            self._observer.warn(f"not taken from {path.name}: {'; '.join(left_out)}")
        else:
            self._observer.note(f"all weights taken from {path.name}")

    def _choose_precision(self) -> Choice:
        """Try one pass forth and back on random voxels, with weights that are thrown away."""
        configuration = self._configuration
        objective = self._objective()
        generator = torch.Generator().manual_seed(0)
        patch = trial_patch(configuration.patch_size, configuration.strides)
        channels = next(p for p in objective.modules["network"].parameters() if p.ndim > 2).shape[1]
        values = torch.tensor(self._job.labels.known_values, dtype=torch.int16)
        mask = values[torch.randint(len(values), (1, 1, *patch), generator=generator)]
        image = torch.randn(1, channels, *patch, generator=generator)
        batch = SimpleNamespace(image=image.to(self._device), mask=mask.to(self._device), cases=("",), step=0)

        def trial(precision: Precision) -> Tensor:
            with precision.autocast():
                phase = next(objective.phases(dict.fromkeys(objective.streams, batch), At(0, 0.0)))
            phase.loss.backward()
            for optimizer in objective.optimizers.values():
                optimizer.zero_grad(set_to_none=True)
            return phase.loss.detach()

        return choose_precision(configuration.training.precision, self._device, trial)

    # --------------------------------------------------------------------------------------------------------- training

    def train(self, run: runs.Run, save_every: float) -> runs.Run:
        """Run the loop to its end and ship the weights."""
        job, training = self._job, self._configuration.training
        schedule_options = registry.options("schedule", training.schedule.name, training.schedule.options)
        parts = Parts(
            objective=self._objective,
            batches=lambda stream, first: self._open(job.training_cases, training.seed, True, first),
            held_out=self._open_held_out if job.validation_cases else None,
            schedule=registry.component("schedule", training.schedule.name)(schedule_options),
            schedule_per=schedule_options.per,
            keep_best=self._keep_best,
            epoch_ended=lambda: progress_plot.draw_progress(job.folder),
        )
        limits = Limits(budget=job.budget, reserve=self._reserve, save_every=save_every)
        loop = Loop(
            parts,
            training,
            job.folder,
            device=self._device,
            precision=Precision(run.measured["precision"], self._device),
            limits=limits,
            observer=self._observer,
            title=f"Training {job.configuration_name}, fold {job.fold}",
            interruption=self.interruption,
            clock=self._clock,
        )
        progress = loop.run()
        self._seconds_per_patch = loop.seconds_per_patch
        return self._ship(run, progress, loop.shipped_weights())

    def _open(self, cases: tuple[str, ...], seed: int, augment: bool, first: int) -> Iterable[Any]:
        job = self._job
        workers = job.workers if job.workers is not None else self._workers()
        return BatchLoader(
            job.store,
            cases,
            self._configuration,
            job.labels,
            seed,
            workers=workers,
            augment=augment,
            start_step=first,
            previous=job.previous,
            pin_memory=self._device.type == "cuda",
            observer=self._observer,
        )

    def _workers(self) -> int:
        return loader_workers(self._device, self._configuration.batch_size)

    def _open_held_out(self, stream: str, first: int) -> Iterable[Any]:
        seed = int(np.random.SeedSequence((self._configuration.training.seed, _HELD_OUT)).generate_state(1)[0])
        return self._open(self._job.validation_cases, seed, False, first)

    def _record(self, epoch: int) -> FoldRecord:
        dataset = dict(self._job.raw.document) if self._job.raw is not None else {}
        fold = self._job.fold if self._job.fold == "all" else int(self._job.fold)
        return FoldRecord(configuration=self._job.configuration_name, fold=fold, epoch=epoch, dataset=dataset)

    def _keep_best(self, weights: Mapping[str, Tensor], epoch: int) -> None:
        save_weights(self._job.folder / BEST, weights, self._record(epoch).model_dump(mode="json"))

    def _ship(self, run: runs.Run, progress: Progress, weights: Mapping[str, Tensor]) -> runs.Run:
        """Write the trained fold with what was measured frozen into its plan; the state is then of no more use."""
        job = self._job
        frozen = runs.with_training(job.plan, job.configuration_name, {"precision": run.measured["precision"]})
        write_fold(job.folder, frozen, weights, self._record(progress.epoch))
        result = {"steps": progress.step, "epochs": progress.epoch, "seconds": round(progress.seconds, 1)}
        run = replace(run, finished=result)
        run.save(job.folder)
        checkpoint.remove_states(job.folder)
        return run

    # ------------------------------------------------------------------------------------------------- final validation

    def _tiles(self) -> int:
        """Tiles of all held-out cases."""
        configuration, store = self._configuration, self._job.store
        step = configuration.inference.step_size
        shapes = [store.open(case).shape[1:] for case in self._job.validation_cases]
        return sum(patches_to_visit(shape, configuration.patch_size, step) for shape in shapes)

    def _reserve(self, seconds_per_patch: float) -> float:
        """Seconds of the budget that the final validation will want."""
        budget = self._job.budget
        if budget is None or self._job.raw is None or not self._job.validation_cases:
            return 0.0
        plain = self._tiles() * seconds_per_patch * _VALIDATION_OVERHEAD
        mirrored = plain * 2 ** len(self._configuration.inference.mirror_axes)
        return mirrored if mirrored <= _TTA_SHARE * budget else min(plain, _LARGEST_RESERVE * budget)

    def validate(self, wanted: bool, start: float) -> Any:
        """Score the held-out cases as whole volumes, where there are any."""
        job = self._job
        if not wanted or job.raw is None or not job.validation_cases:
            return None
        tta = True
        if job.budget is not None and self._seconds_per_patch is not None:
            mirrored = self._tiles() * self._seconds_per_patch * 2 ** len(self._configuration.inference.mirror_axes)
            tta = mirrored * _VALIDATION_OVERHEAD <= max(_TTA_SHARE * job.budget, job.budget - (self._clock() - start))
        if not tta:
            self._observer.note("no time in the budget to average over mirrored copies in the final validation")
        return validate_fold(
            TrainedFold(job.folder),
            job.validation_cases,
            store=job.store,
            references=job.raw.training_cases(),
            previous=job.previous,
            device=job.device,
            tta=tta,
            observer=self._observer,
        )

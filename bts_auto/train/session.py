"""One call of a training: choose what has to be measured, run the loop, ship the weights, validate."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from torch import Tensor

from bts_auto.evaluate.scores import Scores
from bts_auto.events import Observer
from bts_auto.model.fold import FoldRecord, TrainedFold, write_fold
from bts_auto.model.weights import load_weights, save_weights
from bts_auto.plan.expect import duration, too_long
from bts_auto.plan.reserve import (
    FORWARD_SHARE,
    affordable,
    patches_to_visit,
    reserved_seconds,
    validation_fits,
    validation_seconds,
)
from bts_auto.train import checkpoint, progress_plot
from bts_auto.train import run as runs
from bts_auto.train.assembly import Assembly
from bts_auto.train.distributed import ECHO_S, Processes
from bts_auto.train.job import Fold
from bts_auto.train.journal import JOURNAL, Journal
from bts_auto.train.loggers import LoggedRun, Logger, log_all, open_loggers
from bts_auto.train.loggers import close as close_logger
from bts_auto.train.loop import Limits, Loop
from bts_auto.train.measuring import Measured, Measuring
from bts_auto.train.progress import Progress
from bts_auto.train.records import Records
from bts_auto.train.stopping import Interruption, TrainingInterrupted
from bts_auto.train.tile_trial import validate_trained
from bts_auto.train.trainer import TrainingResult
from bts_auto.train.validate import HeldOut

BEST, CHOSEN = "checkpoint_best.safetensors", "checkpoint_chosen.safetensors"
# A network that sees fewer steps than this has hardly begun to learn.
_FEW_STEPS = 250


def train(
    job: Fold,
    run: runs.Run | None,
    settings: Mapping[str, Any],
    *,
    validate: bool,
    save_every: float,
    processes: Processes,
    observer: Observer,
    clock: Callable[[], float],
    started: float,
) -> TrainingResult:
    """Do what is left of `job`; see :func:`bts_auto.train.trainer.train_fold`.

    `started`: the time of `clock` from which this call counts its part of a budget.
    """
    session = _Session(job, processes, observer, clock, started)
    interruption = session.interruption
    with interruption.listening():
        interruption.at_once = True
        if run is None or run.finished is None:
            run = session.begin(run, settings)
            interruption.at_once = False
            run = session.train(run, save_every)
            interruption.at_once = True
            if interruption.requested:
                raise TrainingInterrupted(
                    "stopped between training and validation; the same command goes on from there"
                )
        else:
            session.go_on_after(run)
        scores = session.validate(validate)
    assert run.finished is not None
    failures = tuple(scores.failures) if scores is not None else ()
    return TrainingResult(job.folder, **run.finished, scores=scores, failures=failures)


class _Session:
    def __init__(
        self, job: Fold, processes: Processes, observer: Observer, clock: Callable[[], float], started: float
    ) -> None:
        self._job, self._observer, self._clock, self._started = job, observer, clock, started
        self._configuration = job.configuration
        self._training = self._configuration.training
        self._assembly = Assembly(job, observer, processes)
        self._seconds_per_patch: float | None = None
        self._earlier = 0.0  # seconds that other calls have spent on the run
        self._resumed = False
        self.interruption = Interruption(ECHO_S if processes.size > 1 else 0.0)

    # -------------------------------------------------------------------------------------------------------- beginning

    def begin(self, run: runs.Run | None, settings: Mapping[str, Any]) -> runs.Run:
        """The record of the run, on the disk before the first step."""
        if run is not None:
            self._resumed = True
            return run
        measured = Measuring(self._assembly, self._observer).measure()
        if measured.step_seconds is not None:
            self._tell_time(measured.step_seconds)
        run = runs.Run(dict(settings), measured=measured.to_json())
        self._job.folder.mkdir(parents=True, exist_ok=True)
        run.save(self._job.folder)
        return run

    def _tell_time(self, seconds: float) -> None:
        """Say how long the training will take with steps of `seconds`."""
        job, training = self._job, self._training
        steps = training.epochs * training.iterations
        if job.budget is not None:
            left = self._left() - self._reserve(self._of_a_patch(seconds))
            fitting = int(max(0.0, left) / seconds)
            fitting = fitting if job.lengthen else min(steps, fitting)
            words = f"{duration(seconds)} a step: about {fitting} steps fit the {duration(job.budget)}"
            if fitting < min(steps, _FEW_STEPS):
                words += "; bts_plan_and_preprocess --budget plans a network that sees more in its time"
            self._observer.note(words)
            self._warn_of_long_validation(self._of_a_patch(seconds))
            return
        patches = training.epochs * training.validation_iterations if job.validation_cases else 0
        expected = steps * seconds + patches * seconds * FORWARD_SHARE
        words = f"{duration(seconds)} a step: {steps} steps will take about {duration(expected)}"
        self._observer.note(f"{words}; --budget 12h would end it in that time" if too_long(expected) else words)

    # --------------------------------------------------------------------------------------------------------- training

    def train(self, run: runs.Run, save_every: float) -> runs.Run:
        """Run the loop to its end and ship the weights."""
        job, processes = self._job, self._assembly.processes
        measured = Measured.from_json(run.measured)
        how = {"compiled": self._is_compiled(measured), "on_device": self._on_device(measured)}
        precision = measured.precision
        loggers: list[Logger] = []

        def prepare() -> Loop:
            parts = replace(
                self._assembly.parts(**how),
                keep_best=self._keep_best,
                keep_chosen=self._keep_chosen,
                log=lambda record, epoch: log_all(loggers, record, epoch, self._observer),
                epoch_ended=self._draw_progress,
            )
            return self._assembly.loop(
                parts,
                precision,
                Records(job.folder),
                limits=self._limits(save_every),
                interruption=self.interruption,
                clock=self._clock,
            )

        with contextlib.ExitStack() as stack:
            loggers.extend(open_loggers(job.loggers, self._logged(run)))
            for logger in loggers:
                stack.callback(close_logger, logger, self._observer)
            stack.enter_context(processes.calling(lambda: {"job": job.to_json(), "precision": precision, "how": how}))
            loop = processes.together(prepare)
            begun = self._clock()
            progress = loop.run()
        self._earlier = max(0.0, progress.seconds - (self._clock() - begun))
        self._seconds_per_patch = loop.seconds_per_patch
        if progress.chosen_epoch is None:
            return self._ship(run, progress, loop.shipped_weights(), progress.epoch)
        self._observer.note(f"shipping epoch {progress.chosen_epoch + 1}, whole-volume Dice {progress.chosen_dice:.3f}")
        return self._ship(run, progress, load_weights(job.folder / CHOSEN)[0], progress.chosen_epoch + 1)

    def _draw_progress(self) -> None:
        try:
            progress_plot.draw_progress(self._job.folder)
        except Exception as error:  # no picture is worth a training
            self._observer.warn(f"progress.png could not be drawn ({type(error).__name__}: {error})")

    def _is_compiled(self, measured: Measured) -> bool:
        """What was measured, unless the plan has now another word; "on" is tried anew by each part of a run."""
        wanted = self._training.compile
        return wanted != "off" and (measured.compiled or (wanted == "on" and self._resumed))

    def _on_device(self, measured: Measured) -> bool:
        """What was measured, unless the plan says it."""
        wanted = self._training.augmentation_device
        return measured.augment_on_device if wanted == "auto" else wanted == "device"

    def _limits(self, save_every: float) -> Limits:
        budget = None if self._job.budget is None else self._left()
        most = sys.maxsize if self._job.lengthen else None
        return Limits(budget=budget, reserve=self._reserve, save_every=save_every, most_steps=most)

    def _logged(self, run: runs.Run) -> LoggedRun:
        job = self._job
        name = f"{job.plan.recipe} {job.configuration_name}, fold {job.fold}"
        return LoggedRun(job.folder, job.plan.dataset_name, name, run.settings)

    def _record(self, epoch: int) -> FoldRecord:
        dataset = dict(self._job.raw.document) if self._job.raw is not None else {}
        fold = self._job.fold if self._job.fold == "all" else int(self._job.fold)
        return FoldRecord(configuration=self._job.configuration_name, fold=fold, epoch=epoch, dataset=dataset)

    def _keep_best(self, weights: Mapping[str, Tensor], epoch: int) -> None:
        save_weights(self._job.folder / BEST, weights, self._record(epoch).model_dump(mode="json"))

    def _keep_chosen(self, weights: Mapping[str, Tensor], epoch: int) -> None:
        save_weights(self._job.folder / CHOSEN, weights, self._record(epoch).model_dump(mode="json"))

    def _ship(self, run: runs.Run, progress: Progress, weights: Mapping[str, Tensor], epoch: int) -> runs.Run:
        """Write the trained fold with what was measured frozen into its plan; the state is then of no more use."""
        job = self._job
        frozen = job.plan.replaced(job.configuration_name, "training", {"precision": run.measured["precision"]})
        write_fold(job.folder, frozen, weights, self._record(epoch))
        result = {"steps": progress.step, "epochs": progress.epoch, "seconds": round(progress.seconds, 1)}
        run = replace(run, finished=result)
        run.save(job.folder)
        checkpoint.remove_states(job.folder)
        (job.folder / CHOSEN).unlink(missing_ok=True)
        return run

    # ------------------------------------------------------------------------------------------------- final validation

    def go_on_after(self, run: runs.Run) -> None:
        """Remember of a training that another call has ended what it took."""
        assert run.finished is not None
        self._earlier = run.finished["seconds"]
        if run.finished["steps"]:
            self._seconds_per_patch = self._of_a_patch(run.finished["seconds"] / run.finished["steps"])

    def _of_a_patch(self, step_seconds: float) -> float:
        """Seconds of a patch in evaluation, from those of a step."""
        return step_seconds * FORWARD_SHARE / (self._configuration.batch_size * self._training.accumulation)

    @cached_property
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
        axes = len(self._configuration.inference.mirror_axes)
        return reserved_seconds(self._tiles, seconds_per_patch, axes, budget)

    def _warn_of_long_validation(self, seconds_per_patch: float) -> None:
        """Say it where the budget cannot be kept: all held-out cases are validated, whatever that takes."""
        job = self._job
        if job.budget is None or self._reserve(seconds_per_patch) == 0:
            return
        wanted = validation_seconds(self._tiles, seconds_per_patch)
        if not validation_fits(wanted, job.budget):
            self._observer.warn(
                f"validating {len(job.validation_cases)} held-out cases takes about {duration(wanted)}: the training "
                f"gets half of the {duration(job.budget)}, and the command takes longer than that"
            )

    def validate(self, wanted: bool) -> Any:
        """Score the held-out cases as whole volumes, where there are any, with the tile that suits them best."""
        job = self._job
        if not wanted or job.raw is None or not job.validation_cases:
            return None
        held_out = HeldOut(
            TrainedFold(job.folder), job.store, job.raw.training_cases(), previous=job.previous, device=job.device
        )
        tiles, tta = self._time_for()
        if not tta:
            self._observer.note("no time in the budget to average over mirrored copies in the final validation")
        begun = self._clock()
        scores = validate_trained(held_out, job.validation_cases, tiles=tiles, tta=tta, observer=self._observer)
        self._note_scores(scores, self._clock() - begun)
        if job.budget is not None:
            self._observer.note(f"{duration(job.budget - self._left())} of the {duration(job.budget)} are spent")
        return scores

    def _note_scores(self, scores: Scores, seconds: float) -> None:
        """Write the last line of the journal."""
        journal = Journal(self._job.folder / JOURNAL)
        dice = {region: scores.mean("dice", [region]) for region in scores.regions}
        journal.write("validation", cases=len(scores.cases), dice=dice, seconds=round(seconds, 3))
        journal.close()

    def _left(self) -> float:
        """Seconds of the budget that are left; infinite without one."""
        budget = math.inf if self._job.budget is None else self._job.budget
        return budget - self._earlier - (self._clock() - self._started)

    def _time_for(self) -> tuple[bool, bool]:
        """Whether a budget has room to try sizes of tiles, and to average over mirrored copies."""
        budget, per_patch = self._job.budget, self._seconds_per_patch
        if budget is None or per_patch is None:
            return True, True
        axes = len(self._configuration.inference.mirror_axes)
        return affordable(self._left(), self._tiles, per_patch, axes, budget)

"""Cases through a loaded model, on whichever workers an executor has.

A worker reads the next case while the network works and the last one is written.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bts_auto.data.likeness import spacing_remarks
from bts_auto.data.readers import read_volume
from bts_auto.data.volume import Volume
from bts_auto.errors import BtsError, CaseFailure
from bts_auto.events import Observer
from bts_auto.execute.contract import Executor, WorkerDied
from bts_auto.plan.schema import Plan
from bts_auto.predict.output import CaseOutput
from bts_auto.predict.pipeline import staged
from bts_auto.predict.segmenter import Segmenter, timed

# Cases that a worker gets at once, so that it reads one while it works on another; and shares for each worker, so that
# all are done at about the same time.
_MOST_AT_ONCE, _SHARES = 4, 4


@dataclass(frozen=True)
class Loaded:
    """Stands where a model is to be loaded, for one that is loaded; it does not leave this process."""

    predictor: Segmenter

    def __call__(self, device: str) -> tuple[Segmenter, list[str]]:
        return self.predictor, []


@dataclass(frozen=True)
class ModelCard:
    """What must be known of a model to hand out cases; `notes`: what a user should see about the choice."""

    plan: Plan
    made_by: dict[str, Any]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class CaseEnd:
    """How a case ended: `failure` None means that it is done. `remarks` are warnings about it."""

    case: str
    failure: str | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Begun:
    """A case in memory, ready for the network."""

    volume: Volume
    prepared: Any
    timings: dict[str, float]


@dataclass(frozen=True, eq=False)
class CaseTask:
    """What workers do (:class:`bts_auto.execute.contract.Task`). A job is some cases, or None: what the model is.

    Attributes
    ----------
    load : callable
        ``load(device) -> (segmenter, notes)``; importable by name where workers are other processes.
    overwrite : bool
        Make finished cases again.
    nan_to_zero : bool
        Read NaN and infinite voxels as 0.
    asked : dict of str to str
        Engine and precision where they were asked for: masks that were computed with others are not taken for done.
    """

    load: Callable[[str], tuple[Segmenter, list[str]]]
    overwrite: bool = False
    nan_to_zero: bool = False
    asked: dict[str, str] = field(default_factory=dict)

    def prepare(self, device: str) -> tuple[Segmenter, list[str]]:
        """Load the model."""
        return self.load(device)

    def do(self, state: tuple[Segmenter, list[str]], job: Sequence[CaseOutput] | None) -> Iterator[Any]:
        """A `CaseEnd` for each case, or the `ModelCard`. What a worker before this one has finished is left alone."""
        predictor, notes = state
        if job is None:
            yield ModelCard(predictor.plan, predictor.describe(), tuple(notes))
            return
        todo = []
        for case in job:
            if self.overwrite or not case.is_finished():
                todo.append(case)
            else:
                yield CaseEnd(case.files.case)
        yield from self._segment(predictor, todo)

    def _segment(self, predictor: Segmenter, cases: Sequence[CaseOutput]) -> Iterator[CaseEnd]:
        """Read and prepare, network, export and write."""
        remarks: dict[str, tuple[str, ...]] = {}

        def begin(case: CaseOutput) -> _Begun:
            timings: dict[str, float] = {}
            with timed(timings, "read"):
                volume = read_volume(case.files.images, predictor.plan.channel_names, nan_to_zero=self.nan_to_zero)
            # Should the case fail, this may be why; should it be done, all that there is to say takes its place.
            usual = predictor.plan.original_median_spacing_after_transp
            remarks[case.files.case] = spacing_remarks(volume.geometry.spacing, usual)
            with timed(timings, "prepare"):
                prepared = predictor.prepare(volume)
            return _Begun(volume, prepared, timings)

        def work(case: CaseOutput, begun: _Begun) -> tuple[_Begun, Any]:
            with timed(begun.timings, "network"):
                return begun, predictor.run(begun.volume, begun.prepared)

        def end(case: CaseOutput, worked: tuple[_Begun, Any]) -> None:
            begun, answer = worked
            made = predictor.finish(
                begun.volume, begun.prepared, answer, timings=begun.timings, keep_scores=case.extras.need_scores
            )
            case.write(made, predictor)
            remarks[case.files.case] = made.remarks

        for case, error in staged(cases, begin, work, end):
            name = case.files.case
            yield CaseEnd(name, None if error is None else _reason(error), remarks.pop(name, ()))


def describe(executor: Executor, task: CaseTask, observer: Observer) -> ModelCard:
    """Ask a worker what the model is, and pass on what there is to say about it."""
    if waiting := executor.waits_for():
        observer.note(waiting)
    ((_, card),) = executor.run(task, [None])
    if isinstance(card, WorkerDied):
        raise card
    for line in card.notes:
        observer.note(line)
    return card


def predict_cases(
    executor: Executor, task: CaseTask, cases: Sequence[CaseOutput], observer: Observer
) -> list[CaseFailure]:
    """Segment cases; returns those that could not be.

    Where a worker dies, the cases that it had not finished are tried once more, one at a time, so that the one that
    kills its worker is known and the others are done.
    """
    failures: list[CaseFailure] = []
    left = {case.files.case: case for case in cases}
    with observer.task("Predicting", len(cases), "case") as bar:
        for again, size in enumerate((_at_once(len(cases), executor.workers), 1)):
            listed = list(left.values())
            jobs = [listed[at : at + size] for at in range(0, len(listed), size)]
            for job, end in executor.run(task, jobs):
                if isinstance(end, WorkerDied):
                    died = [CaseFailure(one.files.case, str(end)) for one in job if again]
                    failures += died
                    for failure in died:
                        observer.failed(failure)
                    continue
                del left[end.case]
                for remark in end.remarks:
                    observer.warn(f"{end.case}: {remark}")
                if end.failure is not None:
                    failures.append(CaseFailure(end.case, end.failure))
                    observer.failed(failures[-1])
                bar.advance(case=end.case)
    return failures


def _at_once(cases: int, workers: int) -> int:
    """Cases in a job."""
    if workers == 1:
        return max(1, cases)
    return max(1, min(_MOST_AT_ONCE, cases // (workers * _SHARES)))


def _reason(error: Exception) -> str:
    text = str(error) if isinstance(error, BtsError) else f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        text = "no space is left for its files - make room, and the same command goes on"
    return " ".join(text.split())

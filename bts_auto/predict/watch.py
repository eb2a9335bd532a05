"""A folder that fills: cases are segmented as they arrive, by a model that stays loaded."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from bts_auto.data.raw import CaseFiles
from bts_auto.errors import BtsError, DataError
from bts_auto.events import SILENT, Observer
from bts_auto.execute.contract import Executor
from bts_auto.execute.serial import Serial
from bts_auto.plan.schema import Plan
from bts_auto.predict.cases import CaseTask, describe, predict_cases
from bts_auto.predict.folder import check_folders, find_inputs
from bts_auto.predict.output import CaseOutput, Extras

LOOK_EVERY_S = 1.0
# Files that have kept size and time of change for so long are taken to be whole.
SETTLED_AFTER_S = 2.0

Stamps = list[list[int]]


def watch_folder(
    task: CaseTask,
    input: Path,
    output: Path,
    *,
    extras: Extras | None = None,
    executor: Executor | None = None,
    observer: Observer = SILENT,
    stop: Callable[[], bool] = lambda: False,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Segment each case once all its channels are there and have stopped growing, until interrupted.

    A case that fails is named and tried again only when its files change; so is one that is done. What an earlier run
    has finished is left alone.

    Parameters
    ----------
    task, input, output, extras, executor
        See :func:`bts_auto.predict.folder.spread_folder`.
    stop : callable
        Asked between looks whether to end.
    sleep : callable
        Waits for so many seconds between looks.

    Raises
    ------
    DataError
        When there is no folder `input`.
    """
    check_folders(input, output, mend="make it; it may be empty")
    input, output = Path(input).absolute(), Path(output).absolute()
    with executor or Serial() as workers:
        model = describe(workers, task, observer)
        arrivals = _Arrivals(input, model.plan)
        observer.note(f"watching {input}; Ctrl-C ends")
        while not stop():
            cases = [
                CaseOutput(output, files, model.made_by, extras or Extras(), task.asked) for files in arrivals.settled()
            ]
            todo = [one for one in cases if _wanted(one, task.overwrite, observer)]
            failures = predict_cases(workers, task, todo, observer)
            failed = {failure.case for failure in failures}
            for one in todo:
                if one.files.case not in failed:
                    observer.note(f"{one.files.case}: {one.mask}")
            if not todo:
                sleep(LOOK_EVERY_S)


def _wanted(case: CaseOutput, overwrite: bool, observer: Observer) -> bool:
    """Whether a case is to be segmented; a mask that something else has made is left alone and named."""
    try:
        return overwrite or not case.is_finished()
    except BtsError as error:
        observer.warn(f"{case.files.case}: {error}")
        return False


class _Arrivals:
    """Which cases of a folder have newly arrived, whole."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self._folder, self._plan = folder, plan
        self._seen: dict[str, tuple[Stamps, float]] = {}
        self._given: dict[str, Stamps] = {}

    def settled(self) -> list[CaseFiles]:
        """Cases that are complete, have stopped growing and were not given in this state before."""
        now, seen, new = time.monotonic(), {}, []
        for case, files in self._complete().items():
            try:
                stamps = files.stamps()
            except OSError:  # taken away since it was listed
                continue
            before, since = self._seen.get(case, (None, now))
            seen[case] = stamps, since if stamps == before else now
            if now - seen[case][1] >= SETTLED_AFTER_S and self._given.get(case) != stamps:
                self._given[case] = stamps
                new.append(files)
        self._seen = seen
        return new

    def _complete(self) -> dict[str, CaseFiles]:
        try:
            return find_inputs(self._folder, self._plan)[0]
        except DataError:  # nothing there yet
            return {}

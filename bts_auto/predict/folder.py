"""A folder of cases: which are there, which are done, and the others through the model, wherever that runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bts_auto.data.incoming import check_folder, find_cases, unused_images
from bts_auto.data.raw import CaseFiles
from bts_auto.errors import CaseFailure, DataError, PlanError
from bts_auto.events import SILENT, Observer
from bts_auto.execute.contract import Executor
from bts_auto.execute.serial import Serial
from bts_auto.files import check_writable
from bts_auto.plan.schema import Plan
from bts_auto.predict.cases import CaseTask, describe, predict_cases
from bts_auto.predict.output import CaseOutput, Extras


@dataclass(frozen=True)
class FolderResult:
    """What came of a folder: the cases that are done (now or before), those that could not be, and the model's plan."""

    done: tuple[str, ...]
    failures: tuple[CaseFailure, ...]
    plan: Plan


def spread_folder(
    task: CaseTask,
    input: Path,
    output: Path,
    *,
    extras: Extras | None = None,
    part: tuple[int, int] | None = None,
    executor: Executor | None = None,
    observer: Observer = SILENT,
) -> FolderResult:
    """Segment every case of a folder.

    Masks have the grid and the file type of the images and the integers that the dataset's readers expect. Beside each
    stands ``CASE.prediction.json``: what made it, volumes in ml, seconds of each stage, peak memory. A case whose mask
    this model has already made from these files is not made again; one that fails is named, and the others go on.

    Parameters
    ----------
    task : CaseTask
        How workers load the model, and how they read.
    input, output : Path
        Folder with ``CASE_0000.nii.gz`` ...; folder for ``CASE.nii.gz``.
    extras : Extras, optional
        What is written besides the masks.
    part : tuple of int, optional
        ``(i, n)``: of n parts of the cases only the i-th, counted from 1.
    executor : Executor, optional
        Whose workers do it; None: this process.

    Raises
    ------
    DataError
        When the folder is missing or holds no case.
    PlanError
        When `output` holds a mask that another model or other settings have made and the task does not overwrite, or
        is the folder of the images.
    """
    check_folders(input, output)
    with executor or Serial() as workers:
        if workers.workers > 1:  # they may stand in another folder
            input, output = Path(input).absolute(), Path(output).absolute()
        model = describe(workers, task, observer)
        found, failures = find_inputs(Path(input), model.plan)
        wanted = _part(sorted({*found, *(failure.case for failure in failures)}), part)
        failures = [failure for failure in failures if failure.case in wanted]
        if unused := unused_images(Path(input), model.plan.file_ending):
            observer.warn(f"{input}: pictures beside the scans are not used ({unused[0].name}, {len(unused)} in all)")
        outputs = [
            CaseOutput(Path(output), found[name], model.made_by, extras or Extras(), task.asked)
            for name in wanted
            if name in found
        ]
        todo, unclear = (outputs, []) if task.overwrite else _unfinished(outputs)
        failures += unclear
        for failure in failures:
            observer.failed(failure)
        if finished := len(outputs) - len(todo) - len(unclear):
            observer.note(f"{finished} of {len(outputs)} cases are already done")
        failures += predict_cases(workers, task, todo, observer)
    failed = {failure.case for failure in failures}
    done = tuple(one.files.case for one in outputs if one.files.case not in failed)
    return FolderResult(done, tuple(sorted(failures, key=lambda failure: failure.case)), model.plan)


def _unfinished(outputs: Sequence[CaseOutput]) -> tuple[list[CaseOutput], list[CaseFailure]]:
    """Cases that are still to be done, and those of which that cannot be said."""
    todo, unclear = [], []
    for one in outputs:
        try:
            if not one.is_finished():
                todo.append(one)
        except DataError as error:
            unclear.append(CaseFailure(one.files.case, str(error)))
    return todo, unclear


def check_folders(input: Path, output: Path, mend: str | None = None) -> None:
    """Refuse, before a model is loaded, images that are not there and masks that could not be written.

    Masks among the images would be taken for images the next time.

    Parameters
    ----------
    mend : str, optional
        What to do where there is no folder `input`.
    """
    check_folder(Path(input), mend)
    if Path(input).resolve() == Path(output).resolve():
        raise PlanError("images and masks would lie in one folder", where=output, mend="choose another output folder")
    check_writable(output)


def find_inputs(folder: Path, plan: Plan) -> tuple[dict[str, CaseFiles], list[CaseFailure]]:
    """The cases of a folder; see :func:`bts_auto.data.incoming.find_cases`."""
    return find_cases(folder, len(plan.channel_names), plan.file_ending)


def _part(names: list[str], part: tuple[int, int] | None) -> list[str]:
    if part is None:
        return names
    number, of = part
    if not 1 <= number <= of:
        raise PlanError(f"there is no part {number} of {of}", mend="give 1/N to N/N")
    return names[number - 1 :: of]

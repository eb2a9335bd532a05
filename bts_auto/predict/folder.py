"""A folder of cases through a predictor: the next case is read while the network works and the last one is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bts_auto.data.raw import CaseFiles, find_cases
from bts_auto.data.readers import SUFFIXES, read_volume
from bts_auto.data.volume import Volume
from bts_auto.errors import BtsError, CaseFailure, PlanError
from bts_auto.events import SILENT, Observer
from bts_auto.predict.output import CaseOutput, Extras
from bts_auto.predict.pipeline import staged
from bts_auto.predict.predictor import Segmenter, timed

# A voxel this many times as long or as short as the training data's median is worth a word.
_FAR_SPACING = 3.0


@dataclass(frozen=True)
class FolderResult:
    """What came of a folder: the cases that are done (now or before) and those that could not be."""

    done: tuple[str, ...]
    failures: tuple[CaseFailure, ...]


@dataclass(frozen=True)
class _Begun:
    """A case in memory, ready for the network."""

    volume: Volume
    prepared: Any
    timings: dict[str, float]


def predict_folder(
    predictor: Segmenter,
    input: Path,
    output: Path,
    *,
    save_probabilities: bool = False,
    save_npz: bool = False,
    save_uncertainty: bool = False,
    overwrite: bool = False,
    nan_to_zero: bool = False,
    part: tuple[int, int] | None = None,
    observer: Observer = SILENT,
) -> FolderResult:
    """Segment every case of a folder.

    Masks have the grid and the file type of the images and the integers that the dataset's readers expect. Beside each
    stands ``CASE.prediction.json``: what made it, volumes in ml, seconds of each stage, peak memory. A case whose mask
    this model has already made from these files is not made again; one that fails is named, and the others go on.

    Parameters
    ----------
    predictor : Segmenter
        The loaded model: a :class:`bts_auto.predict.predictor.CasePredictor` or several of them joined.
    input, output : Path
        Folder with ``CASE_0000.nii.gz`` ...; folder for ``CASE.nii.gz``.
    save_probabilities, save_npz, save_uncertainty : bool
        See :class:`bts_auto.predict.output.Extras`.
    overwrite : bool
        Make finished cases again, and replace masks that something else has made.
    nan_to_zero : bool
        Read NaN and infinite voxels as 0.
    part : tuple of int, optional
        ``(i, n)``: of n parts of the cases only the i-th, counted from 1.

    Raises
    ------
    DataError
        When the folder is missing or holds no case.
    PlanError
        When `output` holds a mask that another model or other settings have made and `overwrite` is not set, or is
        the folder of the images.
    """
    if Path(input).resolve() == Path(output).resolve():
        raise PlanError("images and masks would lie in one folder", where=output, mend="choose another output folder")
    found, failures = find_inputs(Path(input), predictor)
    wanted = _part(sorted({*found, *(failure.case for failure in failures)}), part)
    failures = [failure for failure in failures if failure.case in wanted]
    for failure in failures:
        observer.warn(f"{failure.case}: {failure.reason}")
    made_by = predictor.describe()
    extras = Extras(save_probabilities, save_npz, save_uncertainty)
    outputs = [CaseOutput(Path(output), found[name], made_by, extras) for name in wanted if name in found]
    todo = [one for one in outputs if overwrite or not one.is_finished()]
    if len(todo) < len(outputs):
        observer.note(f"{len(outputs) - len(todo)} of {len(outputs)} cases are already done")
    failures += _run(predictor, todo, nan_to_zero, observer)
    failed = {failure.case for failure in failures}
    done = tuple(one.files.case for one in outputs if one.files.case not in failed)
    return FolderResult(done, tuple(sorted(failures, key=lambda failure: failure.case)))


def find_inputs(folder: Path, predictor: Segmenter) -> tuple[dict[str, CaseFiles], list[CaseFailure]]:
    """The cases of a folder: of the training data's file type or, where it has none of that, of its own."""
    n_channels, ending = len(predictor.plan.channel_names), predictor.plan.file_ending
    if folder.is_dir() and not any(folder.glob(f"*{ending}")):
        there = [one for one in SUFFIXES if any(folder.glob(f"*{one}"))]
        ending = there[0] if there else ending
    return find_cases(folder, n_channels, ending)


def _part(names: list[str], part: tuple[int, int] | None) -> list[str]:
    if part is None:
        return names
    number, of = part
    if not 1 <= number <= of:
        raise PlanError(f"there is no part {number} of {of}", mend="give 1/N to N/N")
    return names[number - 1 :: of]


def _run(predictor: Segmenter, cases: Sequence[CaseOutput], nan_to_zero: bool, observer: Observer) -> list[CaseFailure]:
    """Read and prepare, network, export and write; returns what failed."""

    def begin(case: CaseOutput) -> _Begun:
        timings: dict[str, float] = {}
        with timed(timings, "read"):
            volume = read_volume(case.files.images, predictor.plan.channel_names, nan_to_zero=nan_to_zero)
        with timed(timings, "prepare"):
            prepared = predictor.prepare(volume)
        return _Begun(volume, prepared, timings)

    def work(case: CaseOutput, begun: _Begun) -> tuple[_Begun, Any]:
        _remark(case, begun.volume, predictor, observer)
        with timed(begun.timings, "network"):
            return begun, predictor.run(begun.volume, begun.prepared)

    def end(case: CaseOutput, worked: tuple[_Begun, Any]) -> None:
        begun, answer = worked
        made = predictor.finish(
            begun.volume, begun.prepared, answer, timings=begun.timings, keep_scores=case.extras.need_scores
        )
        case.write(made, predictor)

    failures = []
    with observer.task("Predicting", len(cases), "case") as task:
        for case, error in staged(cases, begin, work, end):
            if error is not None:
                failures.append(CaseFailure(case.files.case, _reason(error)))
                observer.warn(f"{case.files.case}: {failures[-1].reason}")
            task.advance(case=case.files.case)
    return failures


def _reason(error: Exception) -> str:
    text = str(error) if isinstance(error, BtsError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())


def _remark(case: CaseOutput, volume: Volume, predictor: Segmenter, observer: Observer) -> None:
    """Say when a scan's voxels are far from the training data's; it is segmented all the same."""
    usual = sorted(predictor.plan.original_median_spacing_after_transp)
    own = sorted(volume.geometry.spacing)
    if any(not 1 / _FAR_SPACING <= mine / theirs <= _FAR_SPACING for mine, theirs in zip(own, usual, strict=True)):
        words = [" x ".join(f"{mm:.3g}" for mm in spacing) for spacing in (own, usual)]
        observer.warn(f"{case.files.case}: voxels of {words[0]} mm, the training data had {words[1]} mm")

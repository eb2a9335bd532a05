"""Scoring a folder of label maps against a folder of references."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from bts_auto import machine
from bts_auto.data.labels import Labels
from bts_auto.data.partial import Annotated, indistinct, is_told
from bts_auto.data.raters import Reference, read_reference
from bts_auto.data.readers import SUFFIXES, read_mask
from bts_auto.errors import BtsError, CaseFailure, DataError
from bts_auto.evaluate.case import CaseScores, RegionProbability, score_case
from bts_auto.evaluate.empty import EmptyRule, empty_rule
from bts_auto.evaluate.metric import resolve
from bts_auto.evaluate.scores import Scores
from bts_auto.events import SILENT, Observer


def find_masks(folder: Path | str, file_ending: str | None = None) -> dict[str, Path]:
    """The masks of a folder by case (the file name without its ending), sorted.

    Raises
    ------
    DataError
        When the folder does not exist, holds no masks, or one case twice.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError("no such folder", where=folder)
    endings = SUFFIXES if file_ending is None else (file_ending,)
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        case = case_of(path, endings)
        if case is None or path.name.startswith(".") or not path.is_file():
            continue
        if case in found:
            twins = f"{path.name} or {found[case].name}"
            raise DataError(f"case '{case}' is there twice", where=folder, mend=f"remove {twins}")
        found[case] = path
    if not found:
        raise DataError(f"no masks ({', '.join(endings)}) in this folder", where=folder)
    return found


def case_of(mask: Path, endings: Sequence[str] = SUFFIXES) -> str | None:
    """The case of a mask, its file's name without the ending; None where it has none of these endings."""
    ending = next((e for e in endings if mask.name.lower().endswith(e.lower())), None)
    return None if ending is None else mask.name[: -len(ending)]


def evaluate_folder(
    predictions: Path | str,
    references: Path | str | Mapping[str, Reference],
    labels: Labels,
    *,
    metrics: Sequence[str] | None = None,
    empty: str | Mapping | EmptyRule = "nan",
    regions: Iterable[str] | Mapping[str, tuple[int, ...]] | None = None,
    partial: Mapping[str, tuple[str, ...]] | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    probabilities: Callable[[Path], RegionProbability] | None = None,
    file_ending: str | None = None,
    observer: Observer = SILENT,
) -> Scores:
    """Score every case that both folders have.

    Parameters
    ----------
    predictions : Path
        Folder with one label map per case.
    references : Path or mapping of str to Path
        A folder with masks named alike, each of which should have been predicted; or the mask of each known case, of
        which those that were not predicted do not matter.
    labels : Labels
        The dataset's labels; integers in a mask that are none of them are refused.
    regions : iterable of str, or mapping of str to tuple of int, optional
        Labels and regions to be scored, or regions by the integers that belong to them; default: all that the dataset
        has.
    partial : mapping of str to tuple of str, optional
        For references that were made for some labels and regions only, these; scores of others are NaN.
    metrics : sequence of str, optional
        See :func:`bts_auto.evaluate.metric.resolve`.
    empty : str, mapping or EmptyRule
        What undefined scores are: ``"nan"`` (left out of means), ``"brats"``, ``"brats2023"`` or the fields of a rule.
    workers : int, optional
        Cases scored side by side; default: the number of cores, at most 8.
    executor : Executor, optional
        Where to score them instead of in threads of this process.
    probabilities : callable, optional
        Gives what was saved of a case beside its mask, for scores of probabilities.

    Returns
    -------
    Scores
        Its failures name the cases on different grids, with unknown labels, or unreadable, then those that only one
        folder has.

    Raises
    ------
    DataError
        When a folder has no masks, or no case is in both.
    PlanError
        For an unknown metric, region or empty-case rule.
    """
    named = resolve(metrics)
    rule = empty_rule(empty)
    scored = _chosen_regions(labels, regions)
    mine = find_masks(predictions, file_ending)
    if isinstance(references, Mapping):
        theirs: dict[str, Reference] = dict(references)
        where, expected = "the dataset", False
    else:
        theirs, where, expected = {**find_masks(references, file_ending)}, str(references), True
    common = [case for case in mine if case in theirs]
    if not common:
        raise DataError(f"no case is also in {where}", where=predictions, mend="name masks of a case alike")
    failures: list[CaseFailure] = []
    alone = [CaseFailure(case, f"has no reference in {where}") for case in mine if case not in theirs]
    if expected:
        alone += [CaseFailure(case, f"has no prediction in {predictions}") for case in theirs if case not in mine]
    names = [one.name for one in named]
    how: dict[str, Any] = {
        "labels": labels,
        "regions": scored,
        "metrics": names,
        "empty": rule,
        "probabilities": probabilities,
    }
    work = functools.partial(score_files, **how)
    found: dict[str, CaseScores] = {}
    with observer.task("Scoring", len(common)) as task:
        jobs = {c: (mine[c], theirs[c], (partial or {}).get(c)) for c in common}
        for case, outcome in _outcomes(work, jobs, workers, executor):
            if isinstance(outcome, CaseFailure):
                failures.append(outcome)
            else:
                found[case] = outcome
            task.advance(case=case)
    cases = {case: found[case] for case in common if case in found}
    failures = [one for some in (failures, alone) for one in sorted(some, key=lambda failure: failure.case)]
    return Scores(cases, tuple(names), tuple(scored), rule, failures)


def _chosen_regions(
    labels: Labels, regions: Iterable[str] | Mapping[str, tuple[int, ...]] | None
) -> dict[str, tuple[int, ...]]:
    known = labels.scoring()
    if regions is None:
        return known
    if isinstance(regions, Mapping):
        return dict(regions)
    chosen = list(regions)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise DataError(f"no label or region is called '{unknown[0]}'", mend=f"known are {', '.join(known)}")
    return {name: known[name] for name in chosen}


def _outcomes(
    work: Callable[[Path, Reference, Annotated], CaseScores],
    files: Mapping[str, tuple[Path, Reference, Annotated]],
    workers: int | None,
    executor: Executor | None,
):
    """Yield (case, scores or failure) as they become ready."""
    if executor is None:
        # Threads: reading and the array work release Python's lock, and starting a process would cost more than a case.
        count = min(len(files), workers or min(machine.cores(), 8))
        with ThreadPoolExecutor(count) as threads:
            yield from _outcomes(work, files, None, threads)
        return
    waiting = {executor.submit(work, *job): case for case, job in files.items()}
    for future in as_completed(waiting):
        case = waiting[future]
        try:
            yield case, future.result()
        except BtsError as error:
            yield case, CaseFailure(case, str(error))
        except Exception as error:  # a dead worker or a broken file must not stop the others
            yield case, CaseFailure(case, f"{type(error).__name__}: {error}")


def score_files(
    prediction: Path,
    reference: Reference,
    annotated: Annotated = None,
    *,
    labels: Labels,
    regions: Mapping[str, tuple[int, ...]],
    metrics: Sequence[str],
    empty: EmptyRule,
    probabilities: Callable[[Path], RegionProbability] | None = None,
) -> CaseScores:
    """Score one label map on disk against another.

    Raises
    ------
    DataError
        When one cannot be read, their grids differ (both are given), or one has integers that the dataset does not
        know.
    """
    mine, geometry = read_mask(prediction)
    theirs, reference_geometry = read_reference(reference)
    differences = geometry.differences(reference_geometry)
    if differences:
        raise DataError(f"prediction and reference lie on different grids: {'; '.join(differences)}")
    mine, theirs = labels.from_submission(mine), labels.from_submission(theirs)
    for what, mask in (("prediction", mine), ("reference", theirs)):
        labels.check_known(mask, what)
    told = None
    if annotated is not None:
        same = indistinct(labels, annotated)
        told = [name for name, members in regions.items() if is_told(members, same)]
    probability = None if probabilities is None else probabilities(prediction)
    return score_case(
        mine,
        theirs,
        geometry.spacing,
        regions,
        metrics,
        empty=empty,
        ignore=labels.ignore,
        told=told,
        probability=probability,
    )

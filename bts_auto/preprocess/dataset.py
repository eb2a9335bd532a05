"""Preprocessing a dataset: every case once for all configurations, and only those cases that changed.

A stored case carries a key: the hash of its source files' contents and of every setting that decides its voxels. A run
compares keys and makes what is missing, so that it may be killed at any moment and typed again.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from bts_auto import machine
from bts_auto.data.raw import CaseFiles, RawDataset
from bts_auto.errors import CaseFailure
from bts_auto.events import SILENT, Observer
from bts_auto.files import hash_json
from bts_auto.plan.schema import Plan, SegmentationConfiguration
from bts_auto.pool import run_each
from bts_auto.preprocess.jobs import Job, Outcome, Target, outdated, reason, run
from bts_auto.preprocess.normalise import DATASET_DEPENDENT
from bts_auto.preprocess.sources import FileHashes
from bts_auto.preprocess.store import STORE_VERSION, CaseStore

HASHES, UNLABELLED_HASHES = "file_hashes.json", "file_hashes_unlabelled.json"
# Compressing holds Python's lock, so that threads gain little beyond two; processes cost about half a second and 150 MB
# each before they do anything. They pay from this many bytes of image files on (about ten cases of four sequences).
_WORTH_PROCESSES = 100 << 20
_THREADS = 2
# Peak memory of one case, measured: about four float32 copies of the scan and three of what it is resampled to.
_COPIES_IN, _COPIES_OUT = 4, 3
_PROCESS_BYTES = 150 << 20
_SHARE_OF_FREE_MEMORY = 0.7
# A case that is estimated to take more than this many times the free memory is refused when it is prepared.
_HOPELESS = 3


def store_folder(folder: Path | str, plan: Plan, config_name: str) -> Path:
    """Where the prepared cases of a configuration lie.

    Configurations with equal preprocessing (the cascade's second stage and 3d_fullres, or recipes that differ in the
    patch) share a folder; it bears the name of the first of them in the plan.

    Parameters
    ----------
    folder : Path
        The dataset's folder under ``preprocessed/``.
    """
    key = _spatial_key(plan, plan.configuration(config_name))
    first = next(name for name in plan.configurations if _spatial_key(plan, plan.configuration(name)) == key)
    return Path(folder) / f"{first}-{key}"


def unlabelled_folder(folder: Path) -> Path:
    """Where the prepared cases without annotation lie beside a store's folder."""
    return folder.with_name(f"{folder.name}-unlabelled")


def _spatial_key(plan: Plan, configuration: SegmentationConfiguration) -> str:
    return hash_json([configuration.preprocessing_key(), plan.transpose_forward, plan.orientation])[:8]


def preprocess_dataset(
    raw: RawDataset,
    plan: Plan,
    configurations: Sequence[str],
    folder: Path | str,
    *,
    workers: int | None = None,
    nan_to_zero: bool = False,
    dtype: str = "float16",
    executor: Executor | None = None,
    unlabelled: bool = False,
    leave_out: Collection[str] = (),
    observer: Observer = SILENT,
) -> list[CaseFailure]:
    """Bring the stores of some configurations up to date with a raw dataset.

    Cases that are stored from the same files with the same settings are left alone, cases that are no longer in the
    dataset are removed, and a case that cannot be prepared is named and removed while the others go on.

    Parameters
    ----------
    configurations : sequence of str
        Names in the plan.
    folder : Path
        The dataset's folder under ``preprocessed/``.
    workers : int, optional
        Cases at the same time; None: as cores and free memory allow.
    nan_to_zero : bool
        Put 0 where voxels are NaN or infinite instead of refusing the case.
    dtype : str
        "float16" or "float32", of stored images.
    executor : Executor, optional
        A pool (such as Dask's ``Client.get_executor()``) that does the work instead of an own one.
    unlabelled : bool
        Prepare the cases of ``imagesUn``, in stores of their own, and not those that train.
    leave_out : collection of str
        Cases that are known to be unfit: not prepared, and removed where they are stored.

    Returns
    -------
    list of CaseFailure
        Sorted by case; empty when all is well.
    """
    folder = Path(folder)
    found = raw.unlabelled_cases() if unlabelled else raw.training_cases()
    cases = {case: files for case, files in found.items() if case not in leave_out}
    targets = _targets(raw, plan, configurations, folder, dtype, unlabelled)
    for target in targets:
        target.store.remove_leftovers()
        for case in set(target.store.cases()) - set(cases):
            target.store.remove(case)
    hashes = FileHashes(folder / (UNLABELLED_HASHES if unlabelled else HASHES))
    hashes.keep_only(file for files in cases.values() for file in files.files)
    jobs = [
        Job(files, raw.channels, raw.labels, plan, targets, nan_to_zero, dtype)
        for files in cases.values()
        if _needs_work(files, targets, hashes.known(files.files), nan_to_zero)
    ]
    failures: dict[str, CaseFailure] = {}
    try:
        if jobs:
            failures = _run(jobs, hashes, workers, executor, observer)
        else:
            observer.note(f"preprocessed: {len(cases)} cases are up to date")
    finally:
        hashes.save()
    return sorted(failures.values(), key=lambda failure: failure.case)


def _targets(
    raw: RawDataset, plan: Plan, names: Sequence[str], folder: Path, dtype: str, unlabelled: bool
) -> tuple[Target, ...]:
    """One for each different store, three-dimensional ones first: their chunks also serve slices."""
    found: dict[Path, Target] = {}
    for name in sorted(names, key=lambda name: -plan.configuration(name).dims):
        path, configuration = store_folder(folder, plan, name), plan.configuration(name)
        path = unlabelled_folder(path) if unlabelled else path
        settings = _settings(raw, plan, configuration) | {"dtype": dtype}
        found.setdefault(path, Target(CaseStore(path), configuration, hash_json(settings)))
    return tuple(found.values())


def _settings(raw: RawDataset, plan: Plan, configuration: SegmentationConfiguration) -> dict[str, Any]:
    statistics = plan.foreground_intensity_properties_per_channel
    return {
        "version": STORE_VERSION,
        "spatial": _spatial_key(plan, configuration),
        "channels": raw.channels,
        "labels": {name: list(value) for name, value in raw.labels.values.items()},
        "ignore": raw.labels.ignore,
        # Other schemes look at the case alone, and are not redone when a new case moves the dataset's statistics.
        "statistics": {
            str(index): statistics.get(str(index))
            for index, scheme in enumerate(configuration.normalization_schemes)
            if scheme in DATASET_DEPENDENT
        },
    }


def _needs_work(
    files: CaseFiles, targets: Sequence[Target], hashes: Mapping[str, str] | None, nan_to_zero: bool
) -> bool:
    return hashes is None or bool(outdated(files, targets, hashes, nan_to_zero))


def _run(
    jobs: Sequence[Job], hashes: FileHashes, workers: int | None, executor: Executor | None, observer: Observer
) -> dict[str, CaseFailure]:
    failures: dict[str, CaseFailure] = {}
    processes = sum(_bytes(job) for job in jobs) > _WORTH_PROCESSES
    count = workers if workers is not None else _workers(jobs, processes=processes)
    processes = processes and count > 1
    with observer.task("Preprocessing", len(jobs)) as task:
        done = run_each(run, jobs, executor=executor, workers=min(count, len(jobs)), processes=processes)
        for job, outcome in done:
            case = job.files.case
            if not isinstance(outcome, Outcome):
                outcome = Outcome(reason(outcome))
            hashes.remember(outcome.hashes)
            if outcome.failure is not None:
                failures[case] = CaseFailure(case, outcome.failure)
                for target in job.targets:
                    target.store.remove(case)
            task.advance(case=case)
    return failures


def _bytes(job: Job) -> int:
    return sum(file.stat().st_size for file in job.files.files if file.is_file())


def _workers(jobs: Sequence[Job], *, processes: bool) -> int:
    free = int(machine.free_memory() * _SHARE_OF_FREE_MEMORY)
    # A case that is far too large even alone (a wrong spacing) fails, and is no reason to do the others one by one.
    largest = max((need for need in map(_memory, jobs) if need <= _HOPELESS * free), default=free)
    fitting = free // (largest + (_PROCESS_BYTES if processes else 0))
    return max(1, min(machine.cores(), fitting, machine.cores() if processes else _THREADS))


def _memory(job: Job) -> int:
    """Estimated bytes that a case takes, from the header of its first image."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(job.files.images[0]))
    try:
        reader.ReadImageInformation()
    except RuntimeError:  # reading the case will say what is wrong
        return 1
    voxels = math.prod(reader.GetSize()) * len(job.channels)
    spacing = reader.GetSpacing()
    growth = max(_growth(spacing, target.configuration) for target in job.targets)
    return int(4 * voxels * (_COPIES_IN + _COPIES_OUT * growth))


def _growth(spacing: Sequence[float], configuration: SegmentationConfiguration) -> float:
    """By how much resampling multiplies the voxels; the thickest axis is the one that a 2D configuration keeps."""
    own = sorted(spacing)[: len(configuration.spacing)]
    return math.prod(own) / math.prod(configuration.spacing)

"""One case's way into the stores, as a job that a thread or another process can run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bts_auto.data.labels import Labels
from bts_auto.data.raters import read_reference, reference_files
from bts_auto.data.raw import CaseFiles
from bts_auto.data.volume import Volume
from bts_auto.errors import BtsError, DataError
from bts_auto.files import hash_json
from bts_auto.plan.schema import Plan, SegmentationConfiguration
from bts_auto.preprocess.prepare import prepare_all
from bts_auto.preprocess.sources import hash_files
from bts_auto.preprocess.store import CaseStore


@dataclass(frozen=True)
class Target:
    """A store to fill.

    Attributes
    ----------
    store : CaseStore
    configuration : SegmentationConfiguration
    settings : str
        Hash of everything but the files that decides the stored voxels.
    """

    store: CaseStore
    configuration: SegmentationConfiguration
    settings: str


@dataclass(frozen=True)
class Job:
    """A case, how it is read and where it goes."""

    files: CaseFiles
    channels: tuple[str, ...]
    labels: Labels
    plan: Plan
    targets: tuple[Target, ...]
    nan_to_zero: bool
    dtype: str


@dataclass(frozen=True)
class Outcome:
    """What came of a job: the reason why it failed, and the hashes of its files (see `sources.hash_files`)."""

    failure: str | None = None
    hashes: Mapping[str, tuple[list[int], str]] = field(default_factory=dict)


def reason(error: BaseException) -> str:
    """An error as one line for the person who waits for the case."""
    if isinstance(error, BtsError):
        return str(error)
    if isinstance(error, BrokenExecutor):
        return "its worker process died (killed, or out of memory)"
    if isinstance(error, MemoryError):
        return "not enough memory"
    return f"{type(error).__name__}: {error}"


def _key(settings: str, hashes: Mapping[str, str], files: CaseFiles, *, zeroed: bool = False) -> str:
    """The key of a stored case. Paths are no part of it: a dataset may move.

    `zeroed`: voxels that are not finite were set to 0.
    """
    made_of = [settings, [hashes.get(str(file)) for file in files.images], _of_mask(files, hashes), zeroed]
    return hash_json(made_of if files.annotated is None else [*made_of, files.annotated])


def _of_mask(files: CaseFiles, hashes: Mapping[str, str]) -> Any:
    """What the label map is made of: a file's hash, or those of all raters and how they are read."""
    if files.mask is None:
        return None
    found = [hashes.get(str(file)) for file in reference_files(files.mask)]
    return [*found, *files.made_of] if files.made_of else found[0]


def _short(file: Path, files: CaseFiles) -> str:
    """A file's name; a rater's mask has the rater's before it, since all are named alike."""
    return file.name if file in files.images or not files.made_of else f"{file.parent.name}/{file.name}"


def outdated(files: CaseFiles, targets: Sequence[Target], hashes: Mapping[str, str], nan_to_zero: bool) -> list[Target]:
    """The stores that do not hold the case as it would be made now."""
    return [
        target
        for target in targets
        if target.store.record(files.case).get("key")
        not in {_key(target.settings, hashes, files, zeroed=zeroed) for zeroed in (False, nan_to_zero)}
    ]


def run(job: Job) -> Outcome:
    """Prepare one case for all stores that need it; runs in a worker."""
    from bts_auto.data.checks import known_labels, same_grid

    found = hash_files(job.files.files)
    hashes = {name: digest for name, (_, digest) in found.items()}
    try:
        stale = outdated(job.files, job.targets, hashes, job.nan_to_zero)
        if not stale:
            return Outcome(hashes=found)
        volume, zeroed = _read(job)
        mask = None
        if job.files.mask is not None:
            mask, geometry = read_reference(job.files.mask)
            same_grid(geometry, reference_files(job.files.mask)[0], volume.geometry, job.files.images[0])
            known_labels(mask, job.labels, job.files.mask, job.files.annotated)
        _store(job, stale, volume, mask, hashes, zeroed=zeroed)
    except Exception as error:
        return Outcome(reason(error), found)
    return Outcome(hashes=found)


def _read(job: Job) -> tuple[Volume, bool]:
    """The scan, and whether voxels that are not finite had to be set to 0."""
    from bts_auto.data.readers import read_volume

    try:
        return read_volume(job.files.images, job.channels), False
    except DataError:
        if not job.nan_to_zero:
            raise
        return read_volume(job.files.images, job.channels, nan_to_zero=True), True


def _store(
    job: Job,
    targets: Sequence[Target],
    volume: Volume,
    mask: np.ndarray | None,
    hashes: Mapping[str, str],
    *,
    zeroed: bool,
) -> None:
    case = job.files.case
    sources = {_short(file, job.files): hashes.get(str(file)) for file in job.files.files}
    made: list[tuple[np.ndarray, CaseStore]] = []
    every = prepare_all(volume, job.plan, [target.configuration for target in targets], mask, mark_outside=True)
    for target, prepared in zip(targets, every, strict=True):
        key = _key(target.settings, hashes, job.files, zeroed=zeroed)
        record, annotated = {"key": key, "sources": sources}, job.files.annotated
        same = next((store for image, store in made if image is prepared.image), None)
        if same is not None:
            target.store.share(case, same, prepared, record, annotated)
            continue
        patch = target.configuration.patch_size
        target.store.write(
            case, prepared, labels=job.labels, patch_size=patch, dtype=job.dtype, record=record, annotated=annotated
        )
        made.append((prepared.image, target.store))

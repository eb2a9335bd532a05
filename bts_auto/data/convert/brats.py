"""BraTS folders of every year, brought into the raw format."""

from __future__ import annotations

import functools
import gzip
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bts_auto.data.case_table import write_case_table
from bts_auto.data.cases import read_case
from bts_auto.data.checks import known_labels
from bts_auto.data.convert.brats_names import SEQUENCES, FoundCase, Scheme, find_subjects, label_scheme
from bts_auto.data.each_case import each_case
from bts_auto.data.raw import NAME, CaseFiles
from bts_auto.data.readers import read_image, read_mask, write_image, write_mask
from bts_auto.errors import BtsError, CaseFailure, DataError
from bts_auto.events import SILENT, Observer
from bts_auto.files import atomic_path, read_json, write_json

ENDING = ".nii.gz"
_TABLES = (".csv", ".xlsx")
# Fast, and hardly larger than the best: an uncompressed file is only packed, its bytes stay.
_GZIP_LEVEL = 4


@dataclass(frozen=True)
class Converted:
    """What a conversion made: the dataset's folder, the number of cases in it, and the cases that were left out."""

    folder: Path
    done: int
    failures: tuple[CaseFailure, ...]


def convert_brats(
    source: Path | str,
    destination_raw: Path | str,
    dataset_id: int,
    name: str,
    observer: Observer = SILENT,
    *,
    workers: int | None = None,
) -> Converted:
    """Make ``DatasetXXX_Name`` from a BraTS folder, however nested.

    Images are copied byte for byte (packed where they were not). Cases without a segmentation go to ``imagesTs``.
    Where enhancing tumour is 4 and 3 is not in use it becomes 3, and ``submission_labels`` brings 4 back on output.
    Tables (survival, name mapping) are kept beside; ``cases.csv`` says which scans are of one patient. Called again,
    it goes on where it was stopped.

    Parameters
    ----------
    source : Path
    destination_raw : Path
        The workspace's folder of raw datasets.
    dataset_id : int
        1 to 999.
    name : str
    observer : Observer
    workers : int, optional
        Processes; None: as many as pay.

    Raises
    ------
    DataError
        When `source` holds no BraTS case, the name is unfit, or the id is taken.
    """
    source = Path(source)
    if not source.is_dir():
        raise DataError("no such folder", where=source)
    folder = _place(Path(destination_raw), dataset_id, name, source)
    subjects, failures = _usable(find_subjects(source), source)
    channels = _channels(subjects, source)
    values, unread = _mask_values(subjects)
    scheme = label_scheme([subject.name for subject in subjects], values)
    work, incomplete = _sources(subjects, channels, {failure.case for failure in unread})
    failures += unread + incomplete
    copy = functools.partial(_convert_case, folder, scheme, channels)
    done = []
    with observer.task("convert", len(work)) as task:
        for case, failure in each_case(copy, work, workers):
            task.advance(case=case)
            if failure is None:
                done.append(case)
            else:
                failures.append(failure)
    if done:
        _write_tables(folder, source, [subject for subject in subjects if subject.name in set(done)])
        n_training = sum(work[case].mask is not None for case in done)
        write_json(folder / "dataset.json", _document(name, channels, scheme, n_training, source))
    return Converted(folder, len(done), tuple(sorted(failures, key=lambda failure: failure.case)))


def _place(raw: Path, dataset_id: int, name: str, source: Path) -> Path:
    """The new dataset's folder, which must be free or hold an earlier part of the same conversion."""
    folder = raw / f"Dataset{dataset_id:03d}_{name}"
    if not NAME.fullmatch(folder.name) or "/" in name or not 0 < dataset_id < 1000:
        raise DataError(f"'{folder.name}' is no name for a dataset", mend="give an id from 1 to 999 and a plain name")
    taken = [path.name for path in raw.glob(f"Dataset{dataset_id:03d}_*") if path.name != folder.name]
    if taken:
        raise DataError(f"dataset id {dataset_id} is taken by {taken[0]}", where=raw, mend="choose another with -d")
    document = folder / "dataset.json"
    if document.is_file() and read_json(document).get("converted_from") != str(source.resolve()):
        raise DataError("exists already and is not of this source", where=folder, mend="choose another id or name")
    return folder


def _usable(subjects: Sequence[FoundCase], source: Path) -> tuple[list[FoundCase], list[CaseFailure]]:
    """Subjects whose name is theirs alone and whose files are clear."""
    if not subjects:
        raise DataError(
            "no BraTS case found", where=source, mend="files are named CASE_flair.nii.gz or CASE-t2f.nii.gz"
        )
    names = Counter(subject.name for subject in subjects)
    failures: dict[str, CaseFailure] = {}
    for subject in subjects:
        if names[subject.name] > 1:
            failures[subject.name] = CaseFailure(subject.name, f"duplicate case: {names[subject.name]} folders have it")
        elif subject.twice:
            failures[subject.name] = CaseFailure(subject.name, f"{subject.twice[0]}: a second file of one sequence")
    return [subject for subject in subjects if subject.name not in failures], list(failures.values())


def _channels(subjects: Sequence[FoundCase], source: Path) -> tuple[str, ...]:
    """The sequences that at least half of the subjects have."""
    counts = Counter(kind for subject in subjects for kind in subject.files)
    n_with_images = sum(set(subject.files) != {"seg"} for subject in subjects)
    channels = tuple(sequence for sequence in SEQUENCES if counts[sequence] and 2 * counts[sequence] >= n_with_images)
    if not channels:
        raise DataError("no BraTS case with images found", where=source)
    return channels


def _mask_values(subjects: Sequence[FoundCase]) -> tuple[set[int], list[CaseFailure]]:
    """All integers in the masks, and the subjects whose mask cannot be read."""
    values: set[int] = set()
    failures = []
    for subject in subjects:
        if "seg" not in subject.files:
            continue
        try:
            mask, _ = read_mask(subject.files["seg"])
        except DataError as error:
            failures.append(CaseFailure(subject.name, str(error)))
            continue
        values |= {int(value) for value in np.unique(mask[mask != 0])}
    return values, failures


def _sources(
    subjects: Sequence[FoundCase], channels: tuple[str, ...], skip: set[str]
) -> tuple[dict[str, CaseFiles], list[CaseFailure]]:
    work, failures = {}, []
    for subject in subjects:
        missing = [channel for channel in channels if channel not in subject.files]
        if subject.name in skip:
            continue
        if missing:
            reason = f"{subject.folder}: missing channel file ({', '.join(missing)})"
            failures.append(CaseFailure(subject.name, reason))
            continue
        images = tuple(subject.files[channel] for channel in channels)
        work[subject.name] = CaseFiles(subject.name, images, subject.files.get("seg"))
    return work, failures


def _convert_case(folder: Path, scheme: Scheme, channels: tuple[str, ...], files: CaseFiles) -> CaseFailure | None:
    part = "Ts" if files.mask is None else "Tr"
    targets = [folder / f"images{part}" / f"{files.case}_{i:04d}{ENDING}" for i in range(len(channels))]
    label = None if files.mask is None else folder / "labelsTr" / f"{files.case}{ENDING}"
    if _newer([*targets, label] if label else targets, files.files):
        return None
    try:
        # NaN is left for the fingerprint to judge, which has an option for it.
        case = read_case(files, channels, nan_to_zero=True)
        if case.mask is not None and files.mask is not None:
            known_labels(case.mask, scheme.source_labels(), files.mask)
        for path, target in zip(files.images, targets, strict=True):
            _copy_image(path, target)
        if label is not None and isinstance(files.mask, Path):
            _copy_mask(files.mask, label, scheme)
    except (BtsError, OSError) as error:
        for made in (*targets, label):
            if made is not None:
                made.unlink(missing_ok=True)
        return CaseFailure(files.case, str(error))
    return None


def _newer(targets: Sequence[Path | None], sources: Sequence[Path]) -> bool:
    """Whether all targets are there and none is older than the source that it was made from."""
    pairs = zip(targets, sources, strict=True)
    return all(t is not None and t.is_file() and t.stat().st_mtime_ns >= s.stat().st_mtime_ns for t, s in pairs)


def _copy_image(path: Path, target: Path) -> None:
    name = path.name.lower()
    if name.endswith(".mha"):
        array, geometry = read_image(path)
        write_image(target, array[0], geometry)
        return
    with atomic_path(target) as temporary:
        if name.endswith(".gz"):
            shutil.copyfile(path, temporary)
            return
        with path.open("rb") as plain, gzip.open(temporary, "wb", compresslevel=_GZIP_LEVEL) as packed:
            shutil.copyfileobj(plain, packed, 1 << 20)


def _copy_mask(path: Path, target: Path, scheme: Scheme) -> None:
    mask, geometry = read_mask(path)
    for theirs, ours in scheme.own.items():
        mask = np.where(mask == theirs, ours, mask)
    write_mask(target, mask, geometry)


def _document(name: str, channels: tuple[str, ...], scheme: Scheme, n_training: int, source: Path) -> dict:
    document = {
        "name": name,
        "channel_names": {str(i): channel for i, channel in enumerate(channels)},
        "labels": scheme.labels,
        "numTraining": n_training,
        "file_ending": ENDING,
        "converted_from": str(source.resolve()),
    }
    if scheme.submission:
        document["submission_labels"] = {str(ours): theirs for ours, theirs in scheme.submission.items()}
    return document


def _write_tables(folder: Path, source: Path, subjects: Sequence[FoundCase]) -> None:
    """Copy the source's tables, and say in ``cases.csv`` which patient and grade each case is."""
    for table in sorted(path for path in source.rglob("*") if path.suffix.lower() in _TABLES):
        if table.is_file() and not table.name.startswith("."):
            kept = "_".join(table.relative_to(source).parts)
            with atomic_path(folder / ("source_cases.csv" if kept == "cases.csv" else kept)) as temporary:
                shutil.copyfile(table, temporary)
    rows = {subject.name: {"patient_id": subject.patient, "grade": subject.grade} for subject in subjects}
    if not any(row["grade"] for row in rows.values()):
        rows = {case: {"patient_id": row["patient_id"]} for case, row in rows.items()}
    write_case_table(folder, rows)

"""The fingerprint of a dataset: what planning needs to know of it, measured while every case is checked.

Shapes, spacings and crop boxes are those of the images turned to LPS, in which plans are made; `CaseRecord.orientation`
says how a case was stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from bts_auto.data.case_tally import CaseTally, measure_cases
from bts_auto.data.raw import RawDataset
from bts_auto.data.statistics import summarise
from bts_auto.documents import Document, parse
from bts_auto.errors import CaseFailure, DataError
from bts_auto.events import SILENT, Observer
from bts_auto.files import hash_json, read_json, write_json


class CaseRecord(Document):
    """One case.

    Attributes
    ----------
    shape, spacing : tuple
        Of the whole image, (z, y, x), turned to LPS; mm.
    orientation : str
        As stored, such as "RAS".
    crop_box : tuple of (start, stop)
        The box around all voxels that are not zero, (z, y, x), turned to LPS.
    label_voxels, label_volumes : dict
        For each value in the mask its voxels, and its volume in mm3.
    content_hash : str
        SHA-256 over the case's files.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    orientation: str
    crop_box: tuple[tuple[int, int], ...]
    label_voxels: dict[int, int]
    label_volumes: dict[int, float]
    content_hash: str


class Fingerprint(Document):
    """Field names are nnU-Net v2's; `cases` is ours and optional, so that nnU-Net's own files load too.

    Attributes
    ----------
    spacings, shapes_after_crop : tuple of tuple
        One entry for each case, in the order of the sorted names, (z, y, x).
    median_relative_size_after_cropping : float
        Median over cases of voxels in the crop box over voxels in the image.
    foreground_intensity_properties_per_channel : dict
        For each channel number: mean, median, std, min, max, percentile_00_5 and percentile_99_5 of all voxels with a
        label above 0.
    cases : dict of str to CaseRecord
    nan_to_zero : bool
        Whether NaN and infinite voxels were counted as 0; ours too.
    """

    spacings: tuple[tuple[float, ...], ...]
    shapes_after_crop: tuple[tuple[int, ...], ...]
    median_relative_size_after_cropping: float
    foreground_intensity_properties_per_channel: dict[str, dict[str, float]]
    cases: dict[str, CaseRecord] = Field(default_factory=dict)
    nan_to_zero: bool = False

    @classmethod
    def load(cls, path: Path | str) -> Fingerprint:
        """Read a fingerprint, ours or nnU-Net's.

        Raises
        ------
        BtsError
            When the file is missing, is no JSON, or has unknown or missing keys.
        """
        return parse(cls, read_json(path), where=path, mend="make it again with bts_fingerprint")

    def save(self, path: Path | str) -> None:
        """Write it as JSON; a file that holds the same already is left alone."""
        content = self.model_dump(mode="json")
        path = Path(path)
        if path.is_file() and hash_json(read_json(path)) == hash_json(content):
            return
        write_json(path, content)

    def content_hash(self) -> str:
        """SHA-256 of the content."""
        return hash_json(self.model_dump(mode="json"))


def compute_fingerprint(
    raw: RawDataset,
    *,
    workers: int | None = None,
    nan_to_zero: bool = False,
    cache: Path | None = None,
    observer: Observer = SILENT,
) -> tuple[Fingerprint, list[CaseFailure]]:
    """Read every training case once, check it and measure it.

    Parameters
    ----------
    raw : RawDataset
    workers : int, optional
        Processes; None: as many as pay, none for small datasets.
    nan_to_zero : bool
        Count NaN and infinite voxels as 0 instead of refusing their case.
    cache : Path, optional
        The fingerprint's file. What was measured of each case is kept in the folder of the same name without suffix; a
        case whose files did not change is not read again. None: nothing is kept, and distinct voxel values stay in
        memory until all cases are read.
    observer : Observer

    Returns
    -------
    fingerprint : Fingerprint
        Of the cases that are fit; without any, its lists are empty.
    failures : list of CaseFailure
        The others, each with its reason.

    Raises
    ------
    DataError
        When the dataset has no case at all.
    """
    files = raw.training_cases()
    for remark in raw.remarks(len(files)):
        observer.warn(remark)
    folder = None if cache is None else (cache.with_suffix("") if cache.suffix == ".json" else cache)
    tallies, failures = measure_cases(
        files, raw.channels, raw.labels, nan_to_zero=nan_to_zero, folder=folder, workers=workers, observer=observer
    )
    flat = _of_other_dimension(tallies)
    failures += [CaseFailure(case, reason) for case, reason in flat.items()]
    tallies = [tally for tally in tallies if tally.case not in flat]
    _remark(tallies, observer)
    return _joined(tallies, len(raw.channels), nan_to_zero), sorted(failures, key=lambda failure: failure.case)


def _joined(tallies: Sequence[CaseTally], n_channels: int, nan_to_zero: bool) -> Fingerprint:
    sizes = [float(np.prod(tally.cropped_shape) / np.prod(tally.shape)) for tally in tallies]
    statistics = {str(i): summarise([tally.channels[i] for tally in tallies]) for i in range(n_channels)}
    return Fingerprint(
        spacings=tuple(tally.spacing for tally in tallies),
        shapes_after_crop=tuple(tally.cropped_shape for tally in tallies),
        median_relative_size_after_cropping=float(np.median(sizes)) if sizes else 1.0,
        foreground_intensity_properties_per_channel=statistics,
        cases={tally.case: _record(tally) for tally in tallies},
        nan_to_zero=nan_to_zero,
    )


def _record(tally: CaseTally) -> CaseRecord:
    voxel = float(np.prod(tally.spacing))
    values: dict[str, Any] = {name: getattr(tally, name) for name in CaseRecord.model_fields if hasattr(tally, name)}
    return CaseRecord(label_volumes={value: n * voxel for value, n in tally.label_voxels.items()}, **values)


def _of_other_dimension(tallies: Sequence[CaseTally]) -> dict[str, str]:
    """Cases that are 2D among 3D ones or the other way round; the larger group (3D in a tie) is right."""
    flat = {tally.case for tally in tallies if 1 in tally.shape}
    solid = {tally.case for tally in tallies} - flat
    if not flat or not solid:
        return {}
    wrong, kind, others = (flat, "2D", "3D") if len(solid) >= len(flat) else (solid, "3D", "2D")
    shapes = {tally.case: tally.shape for tally in tallies}
    return {
        case: DataError(f"is {kind} {shapes[case]} in a dataset of {others} images", where=case).args[0]
        for case in sorted(wrong)
    }


def _remark(tallies: Sequence[CaseTally], observer: Observer) -> None:
    first: dict[str, str] = {}
    for tally in tallies:
        same = first.setdefault(tally.content_hash, tally.case)
        if same != tally.case:
            observer.warn(f"duplicate case: {tally.case} has the very files of {same}; split, they flatter the scores")
    if tallies and not any(value > 0 for tally in tallies for value in tally.label_voxels):
        observer.warn("no case has any labelled voxel")

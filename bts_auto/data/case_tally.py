"""Measuring cases one by one, in this process or several, and keeping what was measured for the next time."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bts_auto.data.cases import check_files, read_case
from bts_auto.data.crop import bounding_box
from bts_auto.data.each_case import each_case
from bts_auto.data.labels import Labels
from bts_auto.data.orientation import Reorientation, orientation_code
from bts_auto.data.raw import CaseFiles
from bts_auto.data.statistics import Moments, Tally
from bts_auto.errors import BtsError, CaseFailure
from bts_auto.events import Observer
from bts_auto.files import atomic_path, hash_json, read_json, write_json

_VERSION = 1


@dataclass(frozen=True)
class CaseTally:
    """What was measured of one case; spatial fields are (z, y, x) in LPS."""

    case: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    orientation: str
    crop_box: tuple[tuple[int, int], ...]
    label_voxels: dict[int, int]
    content_hash: str
    channels: tuple[Tally, ...]

    @property
    def cropped_shape(self) -> tuple[int, ...]:
        """Shape of the crop box."""
        return tuple(stop - start for start, stop in self.crop_box)


def measure_case(files: CaseFiles, channels: tuple[str, ...], labels: Labels, nan_to_zero: bool = False) -> CaseTally:
    """Read, check and measure one case.

    Raises
    ------
    DataError
        When the case is unfit.
    """
    case = read_case(files, channels, labels, nan_to_zero=nan_to_zero)
    mask, geometry = case.mask, case.geometry
    filled = case.images[0] != 0
    for image in case.images[1:]:
        filled |= image != 0
    turn = Reorientation.between(geometry.direction)
    turned = turn.geometry(geometry)
    box = bounding_box(turn.apply(filled))
    foreground = np.flatnonzero(mask > 0) if mask is not None else np.empty(0, np.intp)
    return CaseTally(
        case=files.case,
        shape=turned.size,
        spacing=turned.spacing,
        orientation=orientation_code(geometry.direction),
        crop_box=tuple((part.start, part.stop) for part in box),
        label_voxels=case.label_voxels,
        content_hash=files.content_hash(),
        channels=tuple(Tally.of(image.ravel()[foreground].astype(np.float32)) for image in case.images),
    )


def measure_cases(
    files: Mapping[str, CaseFiles],
    channels: tuple[str, ...],
    labels: Labels,
    *,
    nan_to_zero: bool,
    folder: Path | None,
    workers: int | None,
    observer: Observer,
) -> tuple[list[CaseTally], list[CaseFailure]]:
    """Measure all cases; those in `folder` whose files are unchanged are taken from there.

    Returns
    -------
    tallies : list of CaseTally
        Sorted by name; the arrays of those that lie in `folder` are memory maps.
    failures : list of CaseFailure
    """
    settings = hash_json([_VERSION, len(channels), list(labels.known_values), labels.ignore, nan_to_zero])
    found: dict[str, CaseTally] = {}
    failures = []
    if folder is not None:
        for case, one in files.items():
            kept = _load(folder, one, settings)
            if kept is not None:
                found[case] = kept
    work = {case: one for case, one in files.items() if case not in found}
    measure = functools.partial(_measure_and_keep, channels, labels, nan_to_zero, folder, settings)
    with observer.task("fingerprint", len(files)) as task:
        task.advance(len(found))
        for case, result in each_case(measure, work, workers):
            task.advance(case=case)
            if isinstance(result, CaseFailure):
                failures.append(result)
            else:
                kept = _load(folder, files[case], settings) if folder is not None else None
                found[case] = kept or result
    return [found[case] for case in sorted(found)], failures


def _measure_and_keep(
    channels: tuple[str, ...], labels: Labels, nan_to_zero: bool, folder: Path | None, settings: str, files: CaseFiles
) -> CaseTally | CaseFailure:
    try:
        check_files(files)
        stamps = None if folder is None else files.stamps()
        tally = measure_case(files, channels, labels, nan_to_zero)
        if folder is not None:
            _save(folder, tally, settings, stamps)
        return tally
    except BtsError as error:
        return CaseFailure(files.case, str(error))
    except MemoryError:
        return CaseFailure(files.case, "does not fit into memory")
    except Exception as error:  # whatever it is, the other cases go on
        return CaseFailure(files.case, f"{type(error).__name__}: {' '.join(str(error).split())}")


def _save(folder: Path, tally: CaseTally, settings: str, stamps: Any) -> None:
    """Keep a tally as JSON and one array of 32-bit words: for each channel its values, then its counts."""
    parts = [part for t in tally.channels for part in (t.values.view(np.uint32), t.below)]
    with atomic_path(folder / f"{tally.case}.npy") as temporary, temporary.open("wb") as file:
        np.save(file, np.concatenate(parts), allow_pickle=False)
    values = {name: getattr(tally, name) for name in tally.__dataclass_fields__ if name != "channels"}
    moments = [[len(t.values), t.moments.n, t.moments.mean, t.moments.squares] for t in tally.channels]
    write_json(
        folder / f"{tally.case}.json", {"settings": settings, "stamps": stamps, "tally": values, "channels": moments}
    )


def _load(folder: Path, files: CaseFiles, settings: str) -> CaseTally | None:
    """A kept tally, unless files or settings changed since; None too where what was kept is damaged."""
    path = folder / f"{files.case}.json"
    with contextlib.suppress(BtsError, OSError, EOFError, KeyError, TypeError, ValueError):
        kept = read_json(path)
        if kept["settings"] != settings:
            return None
        stamps = files.stamps()
        if kept["stamps"] != stamps:
            if kept["tally"]["content_hash"] != files.content_hash():
                return None
            write_json(path, kept | {"stamps": stamps})
        words = np.load(folder / f"{files.case}.npy", mmap_mode="r", allow_pickle=False)
        channels, at = [], 0
        for k, n, mean, squares in kept["channels"]:
            values, below = words[at : at + k].view(np.float32), words[at + k : at + 2 * k]
            channels.append(Tally(values, below, Moments(n, mean, squares)))
            at += 2 * k
        if at != len(words):
            return None
        return _from_json(kept["tally"], tuple(channels))
    return None


def _from_json(values: dict[str, Any], channels: tuple[Tally, ...]) -> CaseTally:
    return CaseTally(
        case=values["case"],
        shape=tuple(values["shape"]),
        spacing=tuple(values["spacing"]),
        orientation=values["orientation"],
        crop_box=tuple((start, stop) for start, stop in values["crop_box"]),
        label_voxels={int(value): n for value, n in values["label_voxels"].items()},
        content_hash=values["content_hash"],
        channels=channels,
    )

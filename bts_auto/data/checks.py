"""What makes a case unfit, each as one clear line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bts_auto.data.labels import Labels
from bts_auto.data.orientation import orientation_code
from bts_auto.data.partial import Annotated, check_annotated
from bts_auto.data.volume import Geometry
from bts_auto.errors import DataError


def distinct(paths: Sequence[Path]) -> None:
    """Refuse files of one case that differ in their format only: either could be the one that is meant.

    Raises
    ------
    DataError
        With both names.
    """
    first: dict[str, Path] = {}
    for path in map(Path, paths):
        other = first.setdefault(str(path).removesuffix(".gz").rsplit(".", 1)[0], path)
        if other != path:
            raise DataError(
                f"duplicate case: both {other.name} and {path.name}", where=path.parent, mend="keep one of them"
            )


def finite(array: np.ndarray, path: Path, *, nan_to_zero: bool = False) -> np.ndarray:
    """`array`, whose voxels are all finite; NaN and infinity become 0 with `nan_to_zero`.

    Raises
    ------
    DataError
        With the numbers of NaN and infinite voxels.
    """
    if array.dtype.kind != "f" or np.isfinite(np.sum(array, dtype=np.float64)):
        return array
    bad = ~np.isfinite(array)
    if not bad.any():  # only the sum overflowed
        return array
    if nan_to_zero:
        return np.where(bad, np.zeros((), dtype=array.dtype), array)
    n_nan = int(np.isnan(array).sum())
    raise DataError(
        f"{n_nan} NaN and {int(bad.sum()) - n_nan} infinite voxels",
        where=path,
        mend="mend the file, or go on with --nan-to-zero",
    )


def same_grid(first: Geometry, first_path: Path, other: Geometry, other_path: Path) -> None:
    """Refuse two files of one case that lie on different grids.

    Raises
    ------
    DataError
        With everything that differs; different orientations are named by their letters.
    """
    found = first.differences(other)
    if not found:
        return
    codes = orientation_code(first.direction), orientation_code(other.direction)
    if codes[0] != codes[1]:
        found.append(f"orientation {codes[0]} against {codes[1]}")
    raise DataError(
        f"not on one grid with {other_path.name}: {', '.join(found)}",
        where=first_path,
        mend="resample one onto the other",
    )


def known_labels(mask: np.ndarray, labels: Labels, path: object, annotated: Annotated = None) -> dict[int, int]:
    """Count the voxels of each value in `mask`, background included.

    Parameters
    ----------
    mask : ndarray of int, any shape
    annotated : tuple of str, optional
        The labels and regions that the mask was made for; None: all.

    Returns
    -------
    dict of int to int
        Only values that occur, sorted.

    Raises
    ------
    DataError
        When a value is not in dataset.json (each is named with its number of voxels), or not what was annotated.
    """
    filled = mask[mask != 0]
    values, numbers = np.unique(filled, return_counts=True)
    counts = {int(value): int(number) for value, number in zip(values, numbers, strict=True)}
    unknown = {value: number for value, number in counts.items() if value not in (*labels.known_values, labels.ignore)}
    if unknown:
        listed = ", ".join(f"{value} ({number} voxels)" for value, number in unknown.items())
        raise DataError(
            f"label {'value' if len(unknown) == 1 else 'values'} {listed} not in dataset.json, which knows "
            + ", ".join(map(str, labels.known_values)),
            where=path,
            mend="declare it under 'labels' or correct the mask",
        )
    check_annotated(list(counts), labels, annotated, path)
    background = {0: mask.size - filled.size} if filled.size < mask.size else {}
    return dict(sorted((background | counts).items()))

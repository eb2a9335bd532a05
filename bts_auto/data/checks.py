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


def finite(array: np.ndarray, where: object, *, nan_to_zero: bool = False) -> np.ndarray:
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
        where=where,
        mend="mend the file, or go on with --nan-to-zero",
    )


def voxels(
    array: np.ndarray, where: object, *, nan_to_zero: bool = False, names: Sequence[str] = (), colours: bool = False
) -> np.ndarray:
    """`array` (c, z, y, x), whose voxels are finite and in no channel all 0.

    Parameters
    ----------
    where : object
        The file, or what else the array is.
    nan_to_zero : bool
        Whether NaN and infinity become 0.
    names : sequence of str
        Of the channels.
    colours : bool
        The channels are those of a photograph, one of which may well be empty.

    Raises
    ------
    DataError
        With the numbers of NaN and infinite voxels, or the channel that is empty.
    """
    array = finite(array, where, nan_to_zero=nan_to_zero)
    filled = [bool(channel.any()) for channel in array]
    if not any(filled):
        raise DataError("every voxel is 0", where=where, mend="replace the file or remove the case")
    if not colours and not all(filled):
        number = filled.index(False)
        name = f" ({names[number]})" if number < len(names) else ""
        raise DataError(f"every voxel of channel {number}{name} is 0", where=where, mend="give a scan of that channel")
    return array


def channel_count(count: int, names: Sequence[str], where: object = None) -> None:
    """Refuse more or fewer channels than those named.

    Raises
    ------
    DataError
        With both numbers and the names.
    """
    if count != len(names):
        have = "1 channel" if count == 1 else f"{count} channels"
        raise DataError(f"{have} where {len(names)} are expected ({', '.join(names)})", where=where)


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

"""Reading one case with every check that a case must pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bts_auto.data import checks
from bts_auto.data.labels import Labels
from bts_auto.data.raters import read_reference, reference_files
from bts_auto.data.raw import CaseFiles
from bts_auto.data.readers import read_channels
from bts_auto.data.volume import Geometry
from bts_auto.errors import DataError


@dataclass(frozen=True)
class Case:
    """A case in memory.

    Attributes
    ----------
    images : list of ndarray, each of shape (z, y, x)
        The channels, in their files' own number types.
    geometry : Geometry
    mask : ndarray of int, shape (z, y, x), or None
        On the same grid.
    label_voxels : dict of int to int
        Voxels of each value in the mask, background included; empty without a mask.
    """

    images: list[np.ndarray]
    geometry: Geometry
    mask: np.ndarray | None
    label_voxels: dict[int, int]


def check_files(files: CaseFiles) -> None:
    """Check that every file of a case is there.

    Raises
    ------
    DataError
        Naming those that are missing.
    """
    missing = [path.name for path in files.images if not path.is_file()]
    if missing:
        raise DataError(f"missing channel file {', '.join(missing)}", where=files.images[0].parent)
    if files.mask is not None and not files.mask.is_file():
        raise DataError(f"missing label file {files.mask.name}", where=files.mask.parent)


def read_case(
    files: CaseFiles, channels: tuple[str, ...], labels: Labels | None = None, *, nan_to_zero: bool = False
) -> Case:
    """Read a case's images and, where `files` has one, its mask; every file is read once.

    Raises
    ------
    DataError
        For the first thing that makes the case unfit: a missing or damaged file, NaN, an image that is all zero, files
        on different grids, a label value that `labels` does not know.
    """
    check_files(files)
    images, geometry = read_channels(files.images, channels, nan_to_zero=nan_to_zero)
    if files.mask is None:
        return Case(images, geometry, None, {})
    mask, of_mask = read_reference(files.mask)
    checks.same_grid(of_mask, reference_files(files.mask)[0], geometry, files.images[0])
    voxels = checks.known_labels(mask, labels, files.mask, files.annotated) if labels is not None else {}
    return Case(images, geometry, mask, voxels)

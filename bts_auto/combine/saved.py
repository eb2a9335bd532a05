"""Where the probabilities of a predicted case lie beside its mask, and reading them box by box.

Three forms are known: our 8-bit cache (``CASE.probabilities.b2nd``), our images, one for each output
(``probabilities/CASE/0_background.nii.gz``), and nnU-Net's ``CASE.npz`` with an array ``probabilities`` (k, z, y, x).
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from bts_auto.combine.cache import CACHE_ENDING, CachedProbabilities
from bts_auto.data import checks
from bts_auto.data.labels import Labels
from bts_auto.data.readers import read_image
from bts_auto.errors import DataError

IMAGES_FOLDER = "probabilities"
# Whatever the masks' file type: not every type holds fractions.
IMAGES_ENDING = ".nii.gz"
_UNSAFE = re.compile(r"[^\w.+-]+")


class Source(Protocol):
    """The probabilities of one case of one member, on the case's own grid."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Size (z, y, x)."""
        ...

    @property
    def active(self) -> tuple[slice, ...]:
        """The box outside which every foreground output is certainly 0."""
        ...

    def read(self, box: Sequence[slice]) -> np.ndarray:
        """Probabilities in `box`, float32 (k, z, y, x), in the order of ``labels.outputs``."""
        ...


def probability_images(folder: Path | str, case: str, labels: Labels) -> list[Path]:
    """The image file of each output of a case, in the order of ``labels.outputs``; they need not exist."""
    inner = Path(folder) / IMAGES_FOLDER / case
    return [inner / f"{i}_{_UNSAFE.sub('_', name)}{IMAGES_ENDING}" for i, name in enumerate(labels.outputs)]


def find_probabilities(folder: Path | str, case: str, labels: Labels) -> Source | None:
    """The probabilities of a case in a folder of predictions; None where there are none.

    Those of plain labels are added up where `labels` are the regions made of them.

    Raises
    ------
    DataError
        When a file is there and cannot be used.
    """
    found = _look_up(folder, case, labels)
    return None if found is None else found.read(labels)


def find_of_members(folders: Sequence[Path | str], case: str, labels: Labels) -> tuple[Labels, list[Source]]:
    """The probabilities of a case in several folders, under the labels that all of them can be read as.

    Parameters
    ----------
    labels : Labels
        The dataset's; a folder's probabilities may be of these or of the regions WT, TC and ET made of them.

    Returns
    -------
    labels : Labels
    sources : list of Source
        One for each folder, in the order of ``labels.outputs``.

    Raises
    ------
    DataError
        When a folder has none of the case, or some that cannot be used.
    """
    found = []
    for folder in folders:
        one = _look_up(folder, case, labels)
        if one is None:
            raise DataError(f"no probabilities of {case}", where=folder)
        found.append(one)
    common = Labels.common([one.labels for one in found])
    return common, [one.read(common) for one in found]


def probabilities_exist(folder: Path | str, case: str, labels: Labels) -> bool:
    """Whether :func:`find_probabilities` would find something, without reading it."""
    folder = Path(folder)
    if (folder / f"{case}{CACHE_ENDING}").is_file() or (folder / f"{case}.npz").is_file():
        return True
    return _whose_images(folder, case, labels) is not None


@dataclass(frozen=True)
class _Found:
    """Probabilities on disk: the labels that they are of, and how they are read as others."""

    labels: Labels
    read: Callable[[Labels], Source]


def _look_up(folder: Path | str, case: str, labels: Labels) -> _Found | None:
    folder = Path(folder)
    cache, archive = folder / f"{case}{CACHE_ENDING}", folder / f"{case}.npz"
    if cache.is_file():
        cached = CachedProbabilities(cache)
        own = next((one for one in _trainable(labels) if one.outputs == cached.outputs), labels)
        return _Found(own, lambda wanted: CacheSource(cached, wanted))
    of_images = _whose_images(folder, case, labels)
    if of_images is not None:
        images = probability_images(folder, case, of_images)
        where = images[0].parent
        return _Found(of_images, lambda wanted: ArraySource(_read_images(images), where, of_images, wanted))
    if archive.is_file():
        return _Found(labels, lambda wanted: ArraySource(_read_npz(archive, labels), archive, labels, wanted))
    return None


def _trainable(labels: Labels) -> tuple[Labels, Labels]:
    """What networks of a dataset with these labels may have been trained on."""
    return labels, labels.as_regions()


def _whose_images(folder: Path, case: str, labels: Labels) -> Labels | None:
    """The labels of which every output has an image."""
    whole = (one for one in _trainable(labels) if all(map(Path.is_file, probability_images(folder, case, one))))
    return next(whole, None)


class CacheSource:
    """Probabilities from our 8-bit cache; those of plain labels are added up where `labels` are their regions."""

    def __init__(self, cached: CachedProbabilities, labels: Labels) -> None:
        self._channels = _channels(cached.outputs, labels, cached.path)
        self._cached = cached
        self.shape, self.active = cached.shape, cached.active

    def read(self, box: Sequence[slice]) -> np.ndarray:
        """Probabilities in `box`, float32 (k, z, y, x)."""
        return _added_up(self._cached.read_box(box), self._channels)


class ArraySource:
    """Probabilities that a file format gives only as a whole; kept in half precision.

    Parameters
    ----------
    array : ndarray, shape (k, z, y, x)
    where : Path
    labels : Labels
        Those that `array` is of.
    wanted : Labels
        Those that it is read as: the same, or the regions made of them.
    """

    def __init__(self, array: np.ndarray, where: Path, labels: Labels, wanted: Labels) -> None:
        if array.ndim != 4 or array.shape[0] != len(labels.outputs):
            raise DataError(f"probabilities of shape {array.shape} for {len(labels.outputs)} outputs", where=where)
        self._channels = _channels(labels.outputs, wanted, where)
        self._array = array
        self.shape = array.shape[1:]
        self.active = tuple(slice(0, size) for size in self.shape)

    def read(self, box: Sequence[slice]) -> np.ndarray:
        """Probabilities in `box`, float32 (k, z, y, x)."""
        return _added_up(self._array[(slice(None), *box)].astype(np.float32), self._channels)


def _channels(outputs: Sequence[str], wanted: Labels, where: Path) -> tuple[tuple[int, ...], ...]:
    """For each wanted output the channels that add up to it."""
    try:
        return wanted.channels_of(outputs)
    except DataError as error:
        raise DataError(error.what, where=where) from None


def _added_up(own: np.ndarray, channels: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Probabilities of other outputs, float32 (k, z, y, x), from those of a network's own."""
    if channels == tuple((i,) for i in range(len(own))):
        return own
    return np.stack([own[list(one)].sum(axis=0) for one in channels])


def _read_images(paths: list[Path]) -> np.ndarray:
    stacked: np.ndarray | None = None
    for channel, path in enumerate(paths):
        array = _read_map(path)
        if stacked is None:
            stacked = np.empty((len(paths), *array.shape), np.float16)
        if array.shape != stacked.shape[1:]:
            raise DataError(f"has shape {array.shape}, the others {stacked.shape[1:]}", where=path)
        stacked[channel] = array
    assert stacked is not None
    return stacked


def _read_map(path: Path) -> np.ndarray:
    array, _ = read_image(path)  # all zero where the network never found the output
    if len(array) > 1:
        raise DataError(f"probabilities of one output with {len(array)} channels", where=path)
    return checks.finite(array[0], path)


def _read_npz(path: Path, labels: Labels) -> np.ndarray:
    """nnU-Net's array; its channels are sorted by label, ours stand as declared. Regions stand as declared in both."""
    try:
        with np.load(path, allow_pickle=False) as content:
            array = content["probabilities"].astype(np.float16)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"holds no array 'probabilities' ({error})", where=path) from None
    if labels.has_regions or len(array) != len(labels.outputs):
        return array
    order = np.argsort(np.argsort([value[0] for value in labels.members()]))
    return array[order]

"""Where the probabilities of a predicted case lie beside its mask, and reading them box by box.

Three forms are known: our 8-bit cache (``CASE.probabilities.b2nd``), our images, one for each output
(``probabilities/CASE/0_background.nii.gz``), and nnU-Net's ``CASE.npz`` with an array ``probabilities`` (k, z, y, x).
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
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

    Raises
    ------
    DataError
        When a file is there and cannot be used.
    """
    folder = Path(folder)
    if (folder / f"{case}{CACHE_ENDING}").is_file():
        return CacheSource(CachedProbabilities(folder / f"{case}{CACHE_ENDING}"), labels)
    images = probability_images(folder, case, labels)
    if all(path.is_file() for path in images):
        return ArraySource(_read_images(images), images[0].parent, labels)
    if (folder / f"{case}.npz").is_file():
        return ArraySource(_read_npz(folder / f"{case}.npz", labels), folder / f"{case}.npz", labels)
    return None


def probabilities_exist(folder: Path | str, case: str, labels: Labels) -> bool:
    """Whether :func:`find_probabilities` would find something, without reading it."""
    folder = Path(folder)
    if (folder / f"{case}{CACHE_ENDING}").is_file() or (folder / f"{case}.npz").is_file():
        return True
    return all(path.is_file() for path in probability_images(folder, case, labels))


class CacheSource:
    """Probabilities from our 8-bit cache; those of plain labels are added up where `labels` are their regions."""

    def __init__(self, cached: CachedProbabilities, labels: Labels) -> None:
        try:
            self._channels = labels.channels_of(cached.outputs)
        except DataError as error:
            raise DataError(error.what, where=cached.path) from None
        self._same = cached.outputs == labels.outputs
        self._cached = cached
        self.shape, self.active = cached.shape, cached.active

    def read(self, box: Sequence[slice]) -> np.ndarray:
        """Probabilities in `box`, float32 (k, z, y, x)."""
        own = self._cached.read_box(box)
        return own if self._same else np.stack([own[list(channels)].sum(axis=0) for channels in self._channels])


class ArraySource:
    """Probabilities that a file format gives only as a whole; kept in half precision."""

    def __init__(self, array: np.ndarray, where: Path, labels: Labels) -> None:
        if array.ndim != 4 or array.shape[0] != len(labels.outputs):
            raise DataError(f"probabilities of shape {array.shape} for {len(labels.outputs)} outputs", where=where)
        self._array = array
        self.shape = array.shape[1:]
        self.active = tuple(slice(0, size) for size in self.shape)

    def read(self, box: Sequence[slice]) -> np.ndarray:
        """Probabilities in `box`, float32 (k, z, y, x)."""
        return self._array[(slice(None), *box)].astype(np.float32)


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

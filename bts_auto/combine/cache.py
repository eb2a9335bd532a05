"""Probabilities of one case kept small: 8 bits a voxel, in the box where the image is not zero, compressed.

What choosing an ensemble needs of every cross-validated case. The error of a stored probability is at most 1/510.
One file holds one case of one member, on the case's own grid, so that members of any spacing or patch can be combined.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bts_auto.data.crop import bounding_box
from bts_auto.data.labels import BACKGROUND
from bts_auto.errors import DataError
from bts_auto.files import atomic_path

CACHE_ENDING = ".probabilities.b2nd"
_STEPS = 255
_VERSION = 1
_META = ("version", "outputs", "box", "active", "shape")
# Planes that are compressed together: what is read for one slab of slices.
_PLANES = 16
_MEND = "remove it, then make it again: bts_train CONFIG FOLD --val"


def write_cache(
    path: Path | str,
    channels: Iterable[np.ndarray],
    *,
    outputs: Sequence[str],
    box: Sequence[slice],
    shape: tuple[int, ...],
) -> None:
    """Store the probabilities of one case.

    Parameters
    ----------
    path : Path
        ``validation/CASE.probabilities.b2nd``.
    channels : iterable of ndarray of float, shape (z, y, x) of the box
        Probabilities of each output in turn; one of them is in memory at a time.
    outputs : sequence of str
        The name of each channel (:attr:`bts_auto.data.labels.Labels.outputs`).
    box : sequence of slice
        Where the channels lie in the case's own grid; outside everything is background.
    shape : tuple of int
        Size (z, y, x) of the case's own grid.
    """
    import blosc2

    size = tuple(s.stop - s.start for s in box)
    meta: dict[str, Any] = {
        "version": _VERSION,
        "outputs": list(outputs),
        "box": [[int(s.start), int(s.stop)] for s in box],
        "shape": [int(n) for n in shape],
    }
    with atomic_path(path) as temporary:
        temporary.unlink()
        cparams = {"codec": blosc2.Codec.ZSTD, "clevel": 3, "filters": [blosc2.Filter.NOFILTER], "filters_meta": [0]}
        possible = np.zeros(size, bool)
        chunks = (1, min(_PLANES, size[0]), *size[1:])
        stored = blosc2.empty(
            (len(outputs), *size), np.uint8, urlpath=str(temporary), mode="w", chunks=chunks, cparams=cparams
        )
        for number, channel in zip(range(len(outputs)), channels, strict=True):
            if channel.shape != size:
                raise ValueError(f"output '{outputs[number]}' has shape {channel.shape}, its box {size}")
            steps = np.rint(np.clip(channel, 0, 1) * np.float32(_STEPS)).astype(np.uint8)
            if outputs[number] != BACKGROUND:
                possible |= steps != 0
            stored[number] = steps
        active = bounding_box(possible) if possible.any() else (slice(0, 0),) * len(size)
        meta["active"] = [[s.start + at.start, s.stop + at.start] for s, at in zip(active, box, strict=True)]
        for name, value in meta.items():
            stored.schunk.vlmeta[name] = value
        del stored


class CachedProbabilities:
    """Reads what :func:`write_cache` wrote.

    Attributes
    ----------
    outputs : tuple of str
        Names of the channels.
    box : tuple of slice
        Where they lie in the case's grid.
    active : tuple of slice
        The part of the box outside which every foreground output is 0.
    shape : tuple of int
        Size (z, y, x) of the case's grid.

    Raises
    ------
    DataError
        When the file is damaged or is something else.
    """

    def __init__(self, path: Path | str) -> None:
        import blosc2

        self.path = Path(path)
        try:
            self._stored = blosc2.open(str(path), mode="r")
            meta = {name: self._stored.schunk.vlmeta[name] for name in _META}
        except Exception:  # blosc2 names a function of its own, and the path again
            raise DataError("cannot be read as cached probabilities", where=path, mend=_MEND) from None
        if meta["version"] != _VERSION:
            raise DataError(f"cached probabilities of version {meta['version']}", where=path, mend=_MEND)
        self.outputs = tuple(str(name) for name in meta["outputs"])
        self.box = tuple(slice(int(low), int(high)) for low, high in meta["box"])
        self.active = tuple(slice(int(low), int(high)) for low, high in meta["active"])
        self.shape = tuple(int(n) for n in meta["shape"])

    def read(self, channel: int | None = None) -> np.ndarray:
        """Probabilities in the box: one channel (z, y, x), or all (k, z, y, x); float32."""
        return self._read(... if channel is None else channel).astype(np.float32) / np.float32(_STEPS)

    def read_box(self, box: Sequence[slice]) -> np.ndarray:
        """Probabilities in a `box` of the case's grid, float32 (k, z, y, x); background outside what is stored."""
        out = np.zeros((len(self.outputs), *(s.stop - s.start for s in box)), np.float32)
        if BACKGROUND in self.outputs:
            out[self.outputs.index(BACKGROUND)] = 1
        inner = [slice(max(s.start, b.start), min(s.stop, b.stop)) for s, b in zip(box, self.box, strict=True)]
        if all(s.start < s.stop for s in inner):
            stored = tuple(slice(s.start - b.start, s.stop - b.start) for s, b in zip(inner, self.box, strict=True))
            target = tuple(slice(s.start - b.start, s.stop - b.start) for s, b in zip(inner, box, strict=True))
            out[(slice(None), *target)] = self._read((slice(None), *stored)).astype(np.float32) / np.float32(_STEPS)
        return out

    def check(self) -> None:
        """Read everything once.

        Raises
        ------
        DataError
            When a part of it is damaged.
        """
        for channel in range(len(self.outputs)):
            self._read(channel)

    def _read(self, what: Any) -> np.ndarray:
        try:
            return self._stored[what]
        except Exception as error:
            raise DataError(f"is damaged ({error})", where=self.path, mend=_MEND) from None

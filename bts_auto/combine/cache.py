"""Probabilities of one case kept small: 8 bits a voxel, in the box where the image is not zero, compressed.

What choosing an ensemble needs of every cross-validated case. The error of a stored probability is at most 1/510.
One file holds one case of one member, on the case's own grid, so that members of any spacing or patch can be combined.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from bts_auto.errors import DataError
from bts_auto.files import atomic_path

CACHE_ENDING = ".probabilities.b2nd"
_STEPS = 255
_VERSION = 1


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
    meta = {
        "version": _VERSION,
        "outputs": list(outputs),
        "box": [[int(s.start), int(s.stop)] for s in box],
        "shape": [int(n) for n in shape],
    }
    with atomic_path(path) as temporary:
        temporary.unlink()
        cparams = {"codec": blosc2.Codec.ZSTD, "clevel": 3, "filters": [blosc2.Filter.NOFILTER], "filters_meta": [0]}
        stored = blosc2.empty(
            (len(outputs), *size), np.uint8, urlpath=str(temporary), mode="w", chunks=(1, *size), cparams=cparams
        )
        for number, channel in zip(range(len(outputs)), channels, strict=True):
            if channel.shape != size:
                raise ValueError(f"output '{outputs[number]}' has shape {channel.shape}, its box {size}")
            stored[number] = np.rint(np.clip(channel, 0, 1) * np.float32(_STEPS)).astype(np.uint8)
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
            meta = {name: self._stored.schunk.vlmeta[name] for name in ("version", "outputs", "box", "shape")}
        except Exception as error:
            raise DataError(f"cannot be read as cached probabilities ({error})", where=path) from None
        if meta["version"] != _VERSION:
            raise DataError(f"cached probabilities of version {meta['version']}", where=path, mend="validate again")
        self.outputs = tuple(str(name) for name in meta["outputs"])
        self.box = tuple(slice(int(low), int(high)) for low, high in meta["box"])
        self.shape = tuple(int(n) for n in meta["shape"])

    def read(self, channel: int | None = None) -> np.ndarray:
        """Probabilities in the box: one channel (z, y, x), or all (k, z, y, x); float32."""
        stored = self._stored[...] if channel is None else self._stored[channel]
        return stored.astype(np.float32) / np.float32(_STEPS)

    def paste(self, cropped: np.ndarray, fill: int = 0) -> np.ndarray:
        """Put a label map of the box back into the case's grid."""
        out = np.full(self.shape, fill, cropped.dtype)
        out[self.box] = cropped
        return out

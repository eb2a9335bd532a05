"""Label maps on the grid of prepared cases, such as the masks of an earlier stage, read part by part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bts_auto.errors import DataError
from bts_auto.files import atomic_folder, read_json, write_json
from bts_auto.preprocess.layout import mask_type
from bts_auto.preprocess.prepare import OUTSIDE
from bts_auto.preprocess.store import MASK, Box, open_array, save_array

_RECORD = "record.json"


class MaskStore:
    """A folder with one compressed label map for each case.

    Parameters
    ----------
    folder : Path
        Need not exist until a map is written.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def record(self, case: str) -> dict[str, Any] | None:
        """What was recorded with a case's map; None when there is none."""
        path = self.folder / case / _RECORD
        return read_json(path) if path.is_file() else None

    def write(
        self,
        case: str,
        mask: np.ndarray,
        *,
        patch_size: Sequence[int] | None = None,
        record: Mapping[str, Any] | None = None,
    ) -> None:
        """Store a map, in place of an older one.

        Parameters
        ----------
        mask : ndarray of int, shape (z, y, x)
            On the grid of the prepared case.
        patch_size : sequence of int, optional
            Chunks fit it.
        record : mapping, optional
            JSON values kept with it: what it was made from.
        """
        with atomic_folder(self.folder / case) as folder:
            save_array(folder / MASK, mask.astype(mask_type(mask), copy=False), patch_size, shuffle=False)
            write_json(folder / _RECORD, dict(record or {}))

    def whole(self, case: str) -> np.ndarray:
        """A case's map, int16 of shape (z, y, x)."""
        return np.asarray(self._array(case)[:], np.int16)

    def read(self, case: str, box: Box) -> np.ndarray:
        """Part of a case's map.

        Parameters
        ----------
        box : sequence of (low, high)
            For each of z, y, x; may reach beyond the volume.

        Returns
        -------
        ndarray of int16, shape box
            -1 outside the volume.
        """
        array = self._array(case)
        out = np.full(tuple(high - low for low, high in box), OUTSIDE, np.int16)
        inner = [(max(low, 0), min(high, n)) for (low, high), n in zip(box, array.shape, strict=True)]
        if all(low < high for low, high in inner):
            target = tuple(slice(low - start, high - start) for (low, high), (start, _) in zip(inner, box, strict=True))
            out[target] = array[tuple(slice(low, high) for low, high in inner)]
        return out

    def _array(self, case: str) -> Any:
        path = self.folder / case / MASK
        if not path.is_file():
            raise DataError("has no mask of the previous stage", where=case)
        return open_array(path)

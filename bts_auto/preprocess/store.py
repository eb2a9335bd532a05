"""Prepared cases on disk: a folder for each case with compressed arrays and JSON, written whole or not at all.

``CASE/image.b2nd`` (c, z, y, x) and ``CASE/mask.b2nd`` (z, y, x) are blosc2 arrays, ``CASE/foreground.npy`` holds
voxels of each label, ``CASE/properties.json`` everything else. Nothing is pickled.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bts_auto.data.labels import Labels
from bts_auto.data.partial import Annotated
from bts_auto.errors import DataError
from bts_auto.files import atomic_folder, read_json, write_json
from bts_auto.preprocess.foreground import Key, foreground_voxels, pack, unpack
from bts_auto.preprocess.layout import chunks_and_blocks, image_type, mask_type
from bts_auto.preprocess.prepare import OUTSIDE, Prepared
from bts_auto.preprocess.spatial import SpatialSteps

STORE_VERSION = 1
IMAGE, MASK, FOREGROUND, PROPERTIES = "image.b2nd", "mask.b2nd", "foreground.npy", "properties.json"
# Half-written folders start with a dot (see `files.atomic_folder`), so that they are no cases.
_HIDDEN = "."
# Level 1 of LZ4HC writes float16 scans in less than half the time of level 5, and 3 % larger.
_LEVEL = 1

Box = Sequence[tuple[int, int]]


class StoredCase:
    """One case of a store, read lazily.

    Raises
    ------
    DataError
        When the folder is no stored case, or one that another version wrote.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        path = self.folder / PROPERTIES
        if not path.is_file():
            raise DataError("no such preprocessed case", where=self.folder, mend="run bts_preprocess")
        self.properties: dict[str, Any] = read_json(path)
        if self.properties.get("version") != STORE_VERSION:
            raise DataError("was preprocessed by another version", where=self.folder, mend="run bts_preprocess")

    def __reduce__(self) -> tuple[type[StoredCase], tuple[Path]]:
        return StoredCase, (self.folder,)

    @property
    def case(self) -> str:
        """Its name."""
        return self.folder.name

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(c, z, y, x), without opening an array."""
        c, z, y, x = self.properties["shape"]
        return c, z, y, x

    @property
    def annotated(self) -> bool:
        """Whether the mask is an annotation, and not only the non-zero part."""
        return self.properties["annotated"]

    @property
    def annotated_labels(self) -> Annotated:
        """The labels and regions that it is annotated for; None: all of them."""
        names = self.properties.get("annotated_labels")
        return None if names is None else tuple(names)

    @cached_property
    def image(self) -> Any:
        """blosc2.NDArray of float16 or float32, shape (c, z, y, x)."""
        return open_array(self.folder / IMAGE)

    @cached_property
    def mask(self) -> Any:
        """blosc2.NDArray of int8 to int32, shape (z, y, x)."""
        return open_array(self.folder / MASK)

    @cached_property
    def foreground(self) -> dict[Key, np.ndarray]:
        """For each label (int) and region (str) that occurs: voxel indices, shape (n, 3)."""
        joined = np.load(self.folder / FOREGROUND, allow_pickle=False)
        return unpack(joined, self.properties["foreground"], self.shape[1:])

    @cached_property
    def steps(self) -> SpatialSteps:
        """The way back to the scan's grid."""
        return SpatialSteps.from_json(self.properties["spatial"])

    def read(self, box: Box) -> tuple[np.ndarray, np.ndarray]:
        """Read a part; only the chunks that it touches are decompressed.

        Parameters
        ----------
        box : sequence of (low, high)
            For each of z, y, x; may reach beyond the volume.

        Returns
        -------
        image : ndarray of float32, shape (c, *box)
            0 outside the volume.
        mask : ndarray of int16, shape box
            -1 outside the volume.
        """
        size = tuple(high - low for low, high in box)
        image = np.zeros((self.shape[0], *size), np.float32)
        mask = np.full(size, OUTSIDE, np.int16)
        inner = [(max(low, 0), min(high, n)) for (low, high), n in zip(box, self.shape[1:], strict=True)]
        if all(low < high for low, high in inner):
            source = tuple(slice(low, high) for low, high in inner)
            target = tuple(slice(low - start, high - start) for (low, high), (start, _) in zip(inner, box, strict=True))
            image[(slice(None), *target)] = self.image[(slice(None), *source)]
            mask[target] = self.mask[source]
        return image, mask


class CaseStore:
    """A folder of prepared cases.

    Parameters
    ----------
    folder : Path
        Need not exist until a case is written.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def cases(self) -> list[str]:
        """The names of its cases, sorted."""
        if not self.folder.is_dir():
            return []
        visible = (path for path in self.folder.iterdir() if not path.name.startswith(_HIDDEN))
        return sorted(path.name for path in visible if path.is_dir())

    def open(self, case: str) -> StoredCase:
        """One of its cases."""
        return StoredCase(self.folder / case)

    def record(self, case: str) -> Mapping[str, Any]:
        """What was recorded when the case was written; empty when there is no such case or it cannot be read."""
        try:
            return self.open(case).properties["record"]
        except (DataError, KeyError):
            return {}
        except Exception:  # a damaged file is no reason to stop: the case is written anew
            return {}

    def write(
        self,
        case: str,
        prepared: Prepared,
        *,
        labels: Labels | None = None,
        patch_size: Sequence[int] | None = None,
        dtype: str = "float16",
        record: Mapping[str, Any] | None = None,
        annotated: Annotated = None,
    ) -> None:
        """Store a case, in place of an older one of that name.

        Parameters
        ----------
        labels : Labels, optional
            Whose voxels are kept as foreground; None: every positive integer in the mask.
        patch_size : sequence of int, optional
            Chunks fit it.
        dtype : str
            "float16" (float32 where that loses too much, see `layout.image_type`) or "float32".
        record : mapping, optional
            JSON values kept with the case, such as hashes of what it was made from.
        annotated : tuple of str, optional
            The labels and regions that it is annotated for; None: all.
        """
        mask = prepared.mask if prepared.mask is not None else np.zeros(prepared.image.shape[1:], np.int16)
        found = foreground_voxels(mask, labels, case) if prepared.annotated else {}
        joined, table = pack(found, mask.size)

        interpolated = not prepared.steps.resample.is_identity

        def fill(folder: Path) -> None:
            image = prepared.image.astype(image_type(prepared.image, dtype), copy=False)
            save_array(folder / IMAGE, image, patch_size, shuffle=interpolated)
            save_array(folder / MASK, mask.astype(mask_type(mask), copy=False), patch_size, shuffle=False)
            np.save(folder / FOREGROUND, joined, allow_pickle=False)

        self._put(case, fill, _properties(case, prepared, table, record, annotated))

    def share(
        self,
        case: str,
        other: CaseStore,
        prepared: Prepared,
        record: Mapping[str, Any] | None = None,
        annotated: Annotated = None,
    ) -> None:
        """Store a case whose arrays `other` holds already: its files are linked (copied where the disk cannot link)."""
        source = other.folder / case
        table = other.open(case).properties["foreground"]

        def fill(folder: Path) -> None:
            for name in (IMAGE, MASK, FOREGROUND):
                try:
                    os.link(source / name, folder / name)
                except OSError:
                    shutil.copyfile(source / name, folder / name)

        self._put(case, fill, _properties(case, prepared, table, record, annotated))

    def remove(self, case: str) -> None:
        """Remove a case if it is there."""
        shutil.rmtree(self.folder / case, ignore_errors=True)

    def remove_leftovers(self) -> None:
        """Remove what a killed writer left half-done."""
        if self.folder.is_dir():
            for path in self.folder.glob(".writing-*"):
                shutil.rmtree(path, ignore_errors=True)

    def _put(self, case: str, fill: Callable[[Path], None], properties: dict[str, Any]) -> None:
        with atomic_folder(self.folder / case) as folder:
            fill(folder)
            write_json(folder / PROPERTIES, properties)
            for path in folder.iterdir():
                with path.open("rb+") as file:
                    os.fsync(file.fileno())


def _properties(
    case: str, prepared: Prepared, table: list[dict], record: Mapping[str, Any] | None, annotated: Annotated
) -> dict[str, Any]:
    return {
        "version": STORE_VERSION,
        "case": case,
        "shape": list(prepared.image.shape),
        "spacing": list(prepared.steps.spacing),
        "annotated": prepared.annotated,
        "annotated_labels": None if annotated is None else list(annotated),
        "foreground": table,
        "spatial": prepared.steps.to_json(),
        "record": dict(record or {}),
    }


def save_array(path: Path, array: np.ndarray, patch_size: Sequence[int] | None, *, shuffle: bool) -> None:
    """Compress an array. Interpolated numbers gain 10 % from shuffled bytes; original intensities lose 8 %."""
    import blosc2

    chunks, blocks = chunks_and_blocks(array.shape, patch_size, array.itemsize)
    compression = {
        "codec": blosc2.Codec.LZ4HC,
        "clevel": _LEVEL,
        "filters": [blosc2.Filter.SHUFFLE if shuffle else blosc2.Filter.NOFILTER],
        "nthreads": 1,
    }
    blosc2.asarray(
        np.ascontiguousarray(array), urlpath=str(path), mode="w", chunks=chunks, blocks=blocks, cparams=compression
    )


def open_array(path: Path) -> Any:
    import blosc2

    mapped = {} if os.name == "nt" else {"mmap_mode": "r"}  # mapped files cannot be replaced on Windows
    try:
        return blosc2.open(urlpath=str(path), mode="r", dparams={"nthreads": 1}, **mapped)
    except Exception as error:  # blosc2 raises bare RuntimeErrors
        raise DataError(f"cannot be read ({error})", where=path, mend="run bts_preprocess") from None

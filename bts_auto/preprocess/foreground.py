"""Where the foreground of a prepared case lies: voxels of each label and region, for drawing patches around them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np

from bts_auto.data.labels import Labels

ANNOTATED = "annotated"
"""Key of all voxels that do not carry the ignore label; only where a dataset has one."""

# Of each label this many voxels are kept, or this share where it is more (nnU-Net v2).
_KEPT, _KEPT_SHARE = 10000, 0.01

Key = int | str


def foreground_voxels(mask: np.ndarray, labels: Labels | None, case: str) -> dict[Key, np.ndarray]:
    """Draw voxels of each label, and of each region where the labels declare regions.

    Parameters
    ----------
    mask : ndarray of int, shape (z, y, x)
        The prepared mask.
    labels : Labels or None
        None: every positive integer in the mask is a label.
    case : str
        Names the draw: the same case gives the same voxels wherever and whenever it is prepared.

    Returns
    -------
    dict
        Flat indices, sorted, by label (int) or region (str). Labels that do not occur are left out.
    """
    flat = mask.reshape(-1)
    where = np.flatnonzero(flat > 0)
    values = flat[where]
    present = np.flatnonzero(np.bincount(values)).tolist() if where.size else []
    known = present if labels is None else [v for v in labels.known_values if v != 0 and v in present]
    by_label = {value: where[values == value] for value in known}
    found: dict[Key, np.ndarray] = {value: _draw(every, case, value) for value, every in by_label.items()}
    if labels is not None and labels.has_regions:
        for name in labels.foreground:
            members = [by_label[value] for value in labels.values[name] if value in by_label]
            if members:
                found[name] = _draw(np.sort(np.concatenate(members)), case, name)
    if labels is not None and labels.ignore is not None:
        annotated = np.flatnonzero(flat != labels.ignore)
        if annotated.size:
            found[ANNOTATED] = _draw(annotated, case, ANNOTATED)
    return found


def _draw(every: np.ndarray, case: str, key: Key) -> np.ndarray:
    wanted = max(_KEPT, math.ceil(every.size * _KEPT_SHARE))
    if every.size <= wanted:
        return every
    seed = int.from_bytes(hashlib.sha256(f"{case}\n{key}".encode()).digest()[:16], "little")
    return np.sort(np.random.default_rng(seed).choice(every, wanted, replace=False, shuffle=False))


def pack(found: dict[Key, np.ndarray], size: int) -> tuple[np.ndarray, list[dict]]:
    """One array of flat indices (4 bytes each where they suffice) and the table that says whose they are."""
    kind = np.uint32 if size <= np.iinfo(np.uint32).max else np.uint64
    table, start = [], 0
    for key, indices in found.items():
        table.append({"key": key, "start": start, "stop": start + len(indices)})
        start += len(indices)
    joined = np.concatenate([np.zeros(0, kind), *found.values()]) if found else np.zeros(0, kind)
    return joined.astype(kind), table


def unpack(joined: np.ndarray, table: Sequence[dict], shape: tuple[int, ...]) -> dict[Key, np.ndarray]:
    """The inverse of :func:`pack`, as voxel indices (n, 3) by label or region."""
    return {
        entry["key"]: np.stack(np.unravel_index(joined[entry["start"] : entry["stop"]], shape), axis=1).astype(np.int32)
        for entry in table
    }

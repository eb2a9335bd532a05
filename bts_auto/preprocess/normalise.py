"""Intensity normalisation of one channel. The schemes and their constants are nnU-Net v2's, under its names.

Every scheme is ``f(array, mask, statistics) -> array``. `array` is one channel, float32 (z, y, x), and is overwritten;
`mask` is None or true where voxels belong to the patient (only z-scores use it); `statistics` are those of the
dataset's foreground (``mean``, ``std``, ``percentile_00_5``, ``percentile_99_5``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bts_auto import registry
from bts_auto.errors import DataError

# A constant channel is divided by this instead of its standard deviation.
_EPSILON = 1e-8
# Schemes whose result depends on the dataset, not only on the case.
DATASET_DEPENDENT = ("CTNormalization",)

Statistics = Mapping[str, float]


def z_score(array: np.ndarray, mask: np.ndarray | None, statistics: Statistics) -> np.ndarray:
    """Subtract the mean and divide by the standard deviation of this channel.

    With a mask, both are taken inside it and voxels outside stay as they are (zero after a crop to non-zero).
    """
    inside = array if mask is None else array[mask]
    if inside.size == 0:
        return array
    mean = np.float32(inside.mean(dtype=np.float64))
    std = np.float32(max(float(inside.std(dtype=np.float64)), _EPSILON))
    where = True if mask is None else mask
    np.subtract(array, mean, out=array, where=where)
    return np.divide(array, std, out=array, where=where)


def ct(array: np.ndarray, mask: np.ndarray | None, statistics: Statistics) -> np.ndarray:
    """Clip to the 0.5 and 99.5 percentiles of the dataset's foreground, then scale by its mean and deviation."""
    np.clip(array, statistics["percentile_00_5"], statistics["percentile_99_5"], out=array)
    array -= np.float32(statistics["mean"])
    array /= np.float32(max(statistics["std"], _EPSILON))
    return array


def unchanged(array: np.ndarray, mask: np.ndarray | None, statistics: Statistics) -> np.ndarray:
    """Leave the intensities as they are."""
    return array


def rescale_to_0_1(array: np.ndarray, mask: np.ndarray | None, statistics: Statistics) -> np.ndarray:
    """Bring the range of this channel to 0..1."""
    array -= array.min()
    array /= np.float32(max(float(array.max()), _EPSILON))
    return array


def rgb_to_0_1(array: np.ndarray, mask: np.ndarray | None, statistics: Statistics) -> np.ndarray:
    """Divide colours by 255.

    Raises
    ------
    DataError
        When a value lies outside 0..255, since this is no colour image then.
    """
    lowest, highest = float(array.min()), float(array.max())
    if lowest < 0 or highest > 255:
        raise DataError(
            f"values from {lowest:g} to {highest:g} in a channel that is normalised as a colour (0 to 255)",
            mend="name the channel in dataset.json by what it is",
        )
    array /= np.float32(255)
    return array


def normalise(
    array: np.ndarray,
    mask: np.ndarray | None,
    schemes: Sequence[str],
    use_mask: Sequence[bool],
    statistics: Mapping[str, Statistics],
) -> np.ndarray:
    """Normalise each channel by its scheme.

    Parameters
    ----------
    array : ndarray of float32, shape (c, z, y, x)
        Overwritten.
    mask : ndarray of bool, shape (z, y, x), or None
        Where voxels belong to the patient.
    schemes, use_mask : sequence, length c
        For each channel the registered name of its scheme, and whether the scheme sees the mask.
    statistics : mapping
        ``{"0": {...}, "1": {...}}``: the foreground intensities of each channel.

    Returns
    -------
    ndarray of float32, shape (c, z, y, x)
        `array`.
    """
    if not len(array) == len(schemes) == len(use_mask):
        raise DataError(
            f"{len(array)} channels, but the plan normalises {len(schemes)}", mend="give the planned channels"
        )
    for index, (scheme, masked) in enumerate(zip(schemes, use_mask, strict=True)):
        scale = registry.component("normaliser", scheme)
        array[index] = scale(array[index], mask if masked else None, statistics.get(str(index), {}))
    return array

"""How prepared arrays lie on disk: chunks that fit the patch, blocks that fit the cache, and the number type."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

# A block is what is decompressed at once. 32 KiB fits the first-level cache of common processors, and one slice of a
# volume touches few superfluous voxels.
_BLOCK_BYTES = 32 << 10
# A chunk is what is found by one look-up.
_CHUNK_BYTES = 4 << 20
# The patch that chunks fit when none is named.
DEFAULT_PATCH = (64, 64, 64)
# float16 keeps 11 bits and ends at 65504. It is used where nothing comes near that and rounding moves values by less
# than this share of their standard deviation (root mean square, so that offsets far from zero and tiny values tell).
_ROUNDING = 1e-3
_LARGEST = 60000.0
_PROBES = 1 << 16


def chunks_and_blocks(
    shape: Sequence[int], patch_size: Sequence[int] | None, itemsize: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of chunks and blocks for an array that is read patch by patch.

    Parameters
    ----------
    shape : sequence of int
        (z, y, x), or (c, z, y, x); channels are never mixed in a chunk.
    patch_size : sequence of int, length 2 or 3, or None
        What is usually read; a 2D patch is one slice.
    itemsize : int
        Bytes of a number.

    Returns
    -------
    chunks, blocks : tuple of int
        As long as `shape`; a chunk holds whole blocks.
    """
    lead = (1,) * (len(shape) - 3)
    patch = tuple(patch_size or DEFAULT_PATCH)
    patch = (1,) * (3 - len(patch)) + patch
    volume = [int(n) for n in shape[-3:]]
    block = [min(_power_of_two(p), _power_of_two(n)) for p, n in zip(patch, volume, strict=True)]
    while math.prod(block) * itemsize > _BLOCK_BYTES:
        # The first of the longest axes: lines along x stay long.
        block[block.index(max(block))] //= 2
    chunk = [min(_multiple(p, b), _multiple(n, b)) for p, n, b in zip(patch, volume, block, strict=True)]
    while math.prod(chunk) * itemsize > _CHUNK_BYTES and chunk != block:
        axis = max(range(3), key=lambda a: chunk[a] / block[a])
        chunk[axis] = _multiple(chunk[axis] // 2, block[axis])
    # An axis shorter than its chunk is stored as it is, without padding.
    chunk = [min(c, n) for c, n in zip(chunk, volume, strict=True)]
    block = [min(b, c) for b, c in zip(block, chunk, strict=True)]
    return (*lead, *chunk), (*lead, *block)


def _power_of_two(n: int) -> int:
    return 1 << max(0, n - 1).bit_length()


def _multiple(n: int, of: int) -> int:
    return max(1, math.ceil(n / of)) * of


def image_type(image: np.ndarray, wanted: str = "float16") -> np.dtype:
    """The number type in which an image is stored: `wanted`, but float32 where float16 would lose too much.

    float16 is kept when every channel's values stay below 60000 and rounding moves them by less than a thousandth of
    the channel's standard deviation. Z-scores pass; raw intensities far from zero compared with their spread, or
    beyond the limit, do not.

    Parameters
    ----------
    image : ndarray of float32, shape (c, z, y, x)
    wanted : str
        "float16" or "float32".
    """
    if wanted not in ("float16", "float32"):
        raise ValueError(f"images are stored as float16 or float32, not {wanted}")
    if wanted == "float32" or all(_fits_half(channel) for channel in image):
        return np.dtype(wanted)
    return np.dtype(np.float32)


def _fits_half(channel: np.ndarray) -> bool:
    if not max(abs(float(channel.min())), abs(float(channel.max()))) < _LARGEST:
        return False
    # Every n-th voxel; n is odd so that it does not run along one column of the grid.
    values = channel.reshape(-1)[:: max(1, channel.size // _PROBES) | 1]
    values = values[values != 0].astype(np.float64)
    error = values - values.astype(np.float16)
    return bool(np.sqrt(np.mean(error**2)) <= _ROUNDING * values.std()) if values.size and error.any() else True


def mask_type(mask: np.ndarray) -> np.dtype:
    """The smallest signed integer type that holds the labels and the negative marks."""
    highest = int(mask.max(initial=0))
    return np.dtype(np.int8 if highest < 128 else np.int16 if highest < 32768 else np.int32)

"""Whether what is to be made fits the free memory; asked before it is made, since a system kills without a word.

A wrong spacing in a header is what makes a scan too large: 64 voxels of 20 mm become 1280 of 1 mm along each axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from bts_auto import machine
from bts_auto.errors import DataError
from bts_auto.preprocess.spatial import Resample

_FLOAT32 = 4
# Beside all channels, resampling holds one more of them before and after its last axis.
_WORKING_CHANNELS = 2
# The rest is for the program itself and for what others take meanwhile.
_SHARE_OF_FREE_MEMORY = 0.9
# A scan that grows by more than this has most likely a wrong spacing; else the memory is too small for it.
_SUSPICIOUS_GROWTH = 8.0
_GB = 1 << 30


def check_resampling(channels: int, resample: Resample) -> None:
    """Refuse a scan that cannot be held once it is resampled.

    Raises
    ------
    DataError
        With both sizes and spacings.
    """
    if not resample.is_identity:
        check_arrays(channels + _WORKING_CHANNELS, resample)


def check_arrays(count: int, resample: Resample) -> None:
    """Refuse a scan of which `count` float32 arrays on the network's grid cannot be held.

    Raises
    ------
    DataError
        With both sizes and spacings.
    """
    needed, free = _FLOAT32 * count * math.prod(resample.new_shape), machine.free_memory()
    if needed <= _SHARE_OF_FREE_MEMORY * free:
        return
    grown = math.prod(resample.new_shape) > _SUSPICIOUS_GROWTH * math.prod(resample.shape)
    raise DataError(
        f"{_size(resample.shape)} voxels of {_mm(resample.spacing)} mm become {_size(resample.new_shape)} of "
        f"{_mm(resample.new_spacing)} mm, which takes {needed / _GB:.1f} GB of memory; {free / _GB:.1f} GB are free",
        mend="check the spacing in the header" if grown else "close other programs, or use a machine with more memory",
    )


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _mm(spacing: Sequence[float]) -> str:
    return " x ".join(f"{mm:.3g}" for mm in spacing)

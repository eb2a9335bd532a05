"""What an image costs while a network answers, against the memory that there is: a smaller tile costs less."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bts_auto.plan.schema import SegmentationConfiguration
from bts_auto.predict.tile_choice import fits
from bts_auto.predict.tiles import Tile, divisors, tile_size

# What an engine keeps after an answer, as a share of the estimate of `bts_auto.predict.tile_choice.fits`: OpenVINO
# kept 0.70 in float32 and 0.37 in bfloat16 (a tile of 96^3, 32 features). Torch gives everything back.
_KEPT = {"openvino": {"fp32": 0.7, "bf16": 0.4, "int8": 0.4}}


def engine_share(memory: int, engines: int, *, engine: str, precision: str) -> int:
    """How much of `memory` (bytes) a tile may take in one of several engines that answer one after the other."""
    kept = _KEPT.get(engine, {}).get(precision, 0.0)
    return int(memory / max(1.0, kept * engines))


def affordable_tile(
    tile: Tile, size: Sequence[int], configuration: SegmentationConfiguration, memory: int
) -> tuple[Tile, str | None]:
    """The tile for an image of `size` (z, y, x): `tile`, or the training patch where that does not fit the memory.

    Which tile is used is settled for images of the usual size; one that is larger makes the tile ``whole`` larger.

    Parameters
    ----------
    tile : Tile
        What is wanted.
    memory : int
        Bytes that the network may take.

    Returns
    -------
    tile : Tile
    remark : str or None
        Why it is another.
    """
    patch, here = configuration.patch_size, tuple(size[-configuration.dims :])
    extent = tile_size(tile, here, patch, divisors(configuration))
    if math.prod(extent) <= math.prod(patch):
        return tile, None
    if fits(extent, configuration.model_copy(update={"median_image_size_in_voxels": here}), memory):
        return tile, None
    large, small = ("x".join(map(str, one)) for one in (extent, patch))
    return "patch", f"one tile of {large} voxels would take more memory than there is: tiles of {small} are used"

"""How much of a time budget the final validation on whole volumes wants."""

from __future__ import annotations

import math
from collections.abc import Sequence

# Tiles in evaluation cost more than the pure forward pass: reading, joining, resampling, writing.
_OVERHEAD = 1.5
# Mirrored copies are left out where they would take more than this share of a budget.
TTA_SHARE = 0.25
_LARGEST_SHARE = 0.5


def patches_to_visit(shape: Sequence[int], patch: Sequence[int], step_size: float) -> int:
    """How many tiles cover a volume.

    Parameters
    ----------
    shape : sequence of int
        (z, y, x); a patch with fewer axes is laid on every slice.
    """
    lead, rest = shape[: len(shape) - len(patch)], shape[len(shape) - len(patch) :]
    tiles = math.prod(lead)
    for size, edge in zip(rest, patch, strict=True):
        tiles *= math.ceil(max(size - edge, 0) / (edge * step_size)) + 1
    return tiles


def validation_seconds(tiles: int, seconds_per_patch: float, mirrored_axes: int = 0) -> float:
    """Seconds of visiting `tiles`, each in all mirrored copies."""
    return tiles * seconds_per_patch * _OVERHEAD * 2**mirrored_axes


def reserved_seconds(tiles: int, seconds_per_patch: float, mirrored_axes: int, budget: float) -> float:
    """What to keep of a budget: all mirrored copies where they are cheap, else plain tiles, never over a half."""
    mirrored = validation_seconds(tiles, seconds_per_patch, mirrored_axes)
    plain = validation_seconds(tiles, seconds_per_patch)
    return mirrored if mirrored <= TTA_SHARE * budget else min(plain, _LARGEST_SHARE * budget)

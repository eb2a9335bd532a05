"""How much of a time budget the final validation on whole volumes wants."""

from __future__ import annotations

import math
from collections.abc import Sequence

# A pass forth as a share of an optimiser step of the same patches.
FORWARD_SHARE = 1 / 3
# Tiles in evaluation cost more than the pure forward pass: reading, joining, resampling, writing.
_OVERHEAD = 1.5
# Mirrored copies, and trying tiles, are left out where they would take more than this share of a budget.
_DEAR_SHARE = 0.25
_LARGEST_SHARE = 0.5
# Starting an engine and converting weights, which no number of tiles changes; of a short budget a share at most.
_START_S, _START_SHARE = 10.0, 0.1
# What trying sizes of tiles takes, in plain passes over the held-out cases with the planned one; larger ones cost less.
_TILE_PASSES = 4
_SLACK = 0.02


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


def start_seconds(budget: float) -> float:
    """Seconds before the first tile is visited."""
    return min(_START_S, _START_SHARE * budget)


def validation_seconds(
    tiles: int, seconds_per_patch: float, mirrored_axes: int = 0, *, trying_tiles: bool = False
) -> float:
    """Seconds of visiting `tiles`, each in all mirrored copies, and before that of trying other sizes of them."""
    passes = 2**mirrored_axes + (_TILE_PASSES if trying_tiles else 0)
    return tiles * seconds_per_patch * _OVERHEAD * passes


def validation_fits(seconds: float, budget: float) -> bool:
    """Whether a validation that takes so long leaves the training its share of the budget."""
    return seconds <= _LARGEST_SHARE * budget


def reserved_seconds(tiles: int, seconds_per_patch: float, mirrored_axes: int, budget: float) -> float:
    """What to keep of a budget: for all that can be done where that is cheap, else for plain tiles, never over a half.

    What is done besides plain tiles: all mirrored copies, and trying other sizes of tiles before that.
    """
    everything = validation_seconds(tiles, seconds_per_patch, mirrored_axes, trying_tiles=True)
    mirrored = validation_seconds(tiles, seconds_per_patch, mirrored_axes)
    plain = min(validation_seconds(tiles, seconds_per_patch), _LARGEST_SHARE * budget)
    cheap = (seconds for seconds in (everything, mirrored) if seconds <= _DEAR_SHARE * budget)
    return start_seconds(budget) + next(cheap, plain)


def affordable(
    left: float, tiles: int, seconds_per_patch: float, mirrored_axes: int, budget: float
) -> tuple[bool, bool]:
    """Whether there is time to try sizes of tiles, and to average over mirrored copies, which come first.

    Parameters
    ----------
    left : float
        Seconds of the budget that are left when the training has ended.
    """
    # The training ends with the step that meets the reserve: a hair's breadth must not cost what was reserved.
    able = left - start_seconds(budget) + _SLACK * budget
    for trying, mirrored in ((True, True), (False, True), (True, False)):
        axes = mirrored_axes if mirrored else 0
        if validation_seconds(tiles, seconds_per_patch, axes, trying_tiles=trying) <= able:
            return trying, mirrored
    return False, False

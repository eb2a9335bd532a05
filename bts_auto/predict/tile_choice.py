"""Which tile a trained network is used with: measured on cases that it has not seen."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from bts_auto.plan.schema import MeasuredTile, SegmentationConfiguration
from bts_auto.predict.tiles import Tile, divisors, tile_size

# Tiles that are tried, as multiples of the training patch, before the whole image; the patch and the smallest of them
# also at the wider distance, which saves most of the time of overlapping tiles.
_MULTIPLES = (1.25, 1.5, 2.0)
_WIDE_STEP = 0.75
# What the Dice of one case may differ between two tiles by chance, where there are too few cases to estimate it: a
# judgement, of the size of what was seen between neighbouring tiles on single patients.
_NOISE_OF_ONE_CASE = 0.01
# What `fast` may cost in the mean Dice of any region.
FAST_LOSS = 0.02
# Feature maps of the finest stage that an engine holds at once; measured with OpenVINO, whose maps are of 2 bytes in
# bfloat16. Torch holds fewer, of 4 bytes.
_MAPS, _BYTES = 6, 4
# Images may be this much larger along each axis than the training data's median.
_LARGER = 1.15


@dataclass(frozen=True)
class Tiling:
    """How an image is visited: the tile, the distance of tiles as a share of it, and whether in 8-bit integers."""

    tile: Tile
    step_size: float
    int8: bool = False

    def __str__(self) -> str:
        tile = "x".join(map(str, self.tile)) if isinstance(self.tile, tuple) else str(self.tile)
        words = tile if tile == "whole" else f"{tile} at step {self.step_size}"
        return f"{words} in int8" if self.int8 else words


def candidates(configuration: SegmentationConfiguration, memory: int) -> list[Tiling]:
    """What is worth trying, what does not fit `memory` (bytes) left out; the plan's own patch and step first."""
    image, by, step = median_image(configuration), divisors(configuration), configuration.inference.step_size
    whole = tile_size("whole", image, configuration.patch_size, by)
    larger: list[Tile] = []
    for multiple in _MULTIPLES:
        wanted = tuple(round(multiple * edge) for edge in configuration.patch_size)
        tile = tile_size(wanted, image, configuration.patch_size, by)
        if tile not in (whole, tuple(configuration.patch_size), *larger) and fits(tile, configuration, memory):
            larger.append(tile)
    found = [Tiling("patch", step), *(Tiling(tile, step) for tile in larger)]
    several = any(edge < size for edge, size in zip(configuration.patch_size, image, strict=True))
    found += [Tiling(tile, _WIDE_STEP) for tile in ("patch", *larger[:1]) if several]
    return [*found, *([Tiling("whole", step)] if fits("whole", configuration, memory) else [])]


def median_image(configuration: SegmentationConfiguration) -> tuple[int, ...]:
    """Size of the training data's median image along the network's axes."""
    return tuple(round(edge) for edge in configuration.median_image_size_in_voxels[-configuration.dims :])


def fits(tile: Tile, configuration: SegmentationConfiguration, memory: int) -> bool:
    """Whether the network's working memory for `tile` in an image of the usual size stays below `memory` bytes."""
    image = [round(_LARGER * edge) for edge in median_image(configuration)]
    voxels = math.prod(tile_size(tile, image, configuration.patch_size, divisors(configuration)))
    return voxels * configuration.features_per_stage[0] * _MAPS * _BYTES <= memory


def choose_tiling(measured: Sequence[MeasuredTile], possible: Callable[[Tile], bool]) -> Tiling | None:
    """What has the best mean Dice, or the fastest of those that are as good within the noise.

    The noise is the standard error of the paired difference over cases, and no less than what a few cases allow to
    tell. None without measurements.

    Parameters
    ----------
    measured : sequence of MeasuredTile
        Of all folds; what some fold has not tried is left out, and so is int8, whose masks are not quite the same.
    possible : callable
        Whether a tile can be used here.
    """
    plain = [one for one in pooled(measured) if not one.mirrored and not one.int8 and possible(one.tile)]
    if not plain:
        return None
    means = {_tiling(one): _by_case(one.dice) for one in plain}
    best = max(means.values(), key=lambda mean: statistics.mean(mean.values()))
    return _fastest([one for one in plain if _as_good(means[_tiling(one)], best)])


def fast_tiling(
    measured: Sequence[MeasuredTile], possible: Callable[[Tile], bool], *, int8: bool = False
) -> Tiling | None:
    """The fastest that, without mirroring, loses at most `FAST_LOSS` of any region's mean Dice.

    The loss is counted from the mirrored validation where all cases have one, else from what :func:`choose_tiling`
    takes. None: nothing was measured that qualifies.

    Parameters
    ----------
    measured, possible
        As for :func:`choose_tiling`.
    int8 : bool
        Whether 8-bit integers can be used.
    """
    found = pooled(measured)
    plain = [one for one in found if not one.mirrored and possible(one.tile) and (int8 or not one.int8)]
    if not plain:
        return None
    normal = choose_tiling(measured, lambda tile: True)
    reference = next((one for one in found if one.mirrored), None) or next(
        one for one in found if _tiling(one) == normal
    )
    wanted = _by_region(reference.dice)
    good = [
        one
        for one in plain
        if all(_by_region(one.dice).get(region, 0.0) >= value - FAST_LOSS for region, value in wanted.items())
    ]
    return _fastest(good) if good else None


def unmeasured_fast_tiling(configuration: SegmentationConfiguration, memory: int, *, int8: bool = False) -> Tiling:
    """For a model of which nothing was measured: a tile a little larger than the patch, at the wider distance.

    On a trained network (`benchmarks/predict.py`) this lost 0.02 in one region and nothing in the others, where whole
    images lost 0.07.
    """
    wide = [one for one in candidates(configuration, memory) if one.step_size == _WIDE_STEP]
    return replace(wide[-1] if wide else Tiling("patch", _WIDE_STEP), int8=int8)


def pooled(measured: Sequence[MeasuredTile]) -> list[MeasuredTile]:
    """One entry for each tiling, its cases taken together; those that some case has not been tried with are left out.

    The mirrored validation is one entry, whatever its tiles.
    """
    joined: dict[tuple[Tiling | None, bool], MeasuredTile] = {}
    for one in measured:
        key = (None if one.mirrored else _tiling(one), one.mirrored)
        before = joined.get(key)
        if before is not None:
            one = one.model_copy(
                update={"dice": {**before.dice, **one.dice}, "seconds": {**before.seconds, **one.seconds}}
            )
        joined[key] = one
    everywhere = set().union(*(one.dice for one in joined.values() if not one.mirrored))
    return [one for one in joined.values() if set(one.dice) == everywhere]


def _tiling(one: MeasuredTile) -> Tiling:
    return Tiling(one.tile, one.step_size, one.int8)


def _fastest(measured: Sequence[MeasuredTile]) -> Tiling:
    return _tiling(min(measured, key=lambda one: statistics.mean(one.seconds.values())))


def _by_case(dice: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The mean over regions of each case that has one."""
    return {case: statistics.mean(scores.values()) for case, scores in dice.items() if scores} or {"": 0.0}


def _by_region(dice: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The mean over cases of each region."""
    regions = {region for scores in dice.values() for region in scores}
    return {r: statistics.mean(scores[r] for scores in dice.values() if r in scores) for r in regions}


def _as_good(one: Mapping[str, float], best: Mapping[str, float]) -> bool:
    """Whether the mean difference to the best is within its noise."""
    gaps = [best[case] - one[case] for case in best if case in one]
    if not gaps:
        return False
    floor = _NOISE_OF_ONE_CASE / math.sqrt(len(gaps))
    error = statistics.stdev(gaps) / math.sqrt(len(gaps)) if len(gaps) > 1 else 0.0
    return statistics.mean(gaps) <= max(floor, error)

"""Which tile a trained network is used with: measured on cases that it has not seen."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

from bts_auto.plan.schema import MeasuredTile, SegmentationConfiguration
from bts_auto.predict.tiles import Tile, divisors, tile_size

# Tiles that are tried, as multiples of the training patch, before the whole image.
_MULTIPLES = (1.5, 2.0)
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


def candidates(configuration: SegmentationConfiguration, memory: int) -> list[Tile]:
    """The tiles that are worth trying, those that do not fit `memory` (bytes) left out; the training patch first."""
    image = median_image(configuration)
    by = divisors(configuration)
    found: list[Tile] = ["patch"]
    for multiple in _MULTIPLES:
        wanted = tuple(round(multiple * edge) for edge in configuration.patch_size)
        tile = tile_size(wanted, image, configuration.patch_size, by)
        if tile != tile_size("whole", image, configuration.patch_size, by) and tile not in found:
            found.append(tile)
    return [tile for tile in (*found, "whole") if tile == "patch" or fits(tile, configuration, memory)]


def median_image(configuration: SegmentationConfiguration) -> tuple[int, ...]:
    """Size of the training data's median image along the network's axes."""
    return tuple(round(edge) for edge in configuration.median_image_size_in_voxels[-configuration.dims :])


def fits(tile: Tile, configuration: SegmentationConfiguration, memory: int) -> bool:
    """Whether the network's working memory for `tile` in an image of the usual size stays below `memory` bytes."""
    image = [round(_LARGER * edge) for edge in median_image(configuration)]
    voxels = math.prod(tile_size(tile, image, configuration.patch_size, divisors(configuration)))
    return voxels * configuration.features_per_stage[0] * _MAPS * _BYTES <= memory


def choose_tile(measured: Sequence[MeasuredTile], possible: Callable[[Tile], bool]) -> Tile:
    """The tile with the best mean Dice, or the fastest of those that are as good within the noise.

    The noise is the standard error of the paired difference over cases, and no less than what a few cases allow to
    tell. Without measurements it is the training patch.

    Parameters
    ----------
    measured : sequence of MeasuredTile
        Of all folds; a tile that some fold has not tried is left out.
    possible : callable
        Whether a tile can be used here.
    """
    plain = [one for one in pooled(measured) if not one.mirrored and possible(one.tile)]
    if not plain:
        return "patch"
    means = {one.tile: _by_case(one.dice) for one in plain}
    best = max(plain, key=lambda one: statistics.mean(means[one.tile].values()))
    equal = [one for one in plain if _as_good(means[one.tile], means[best.tile])]
    return min(equal, key=lambda one: statistics.mean(one.seconds.values())).tile


def fast_tile(measured: Sequence[MeasuredTile], possible: Callable[[Tile], bool]) -> Tile | None:
    """The fastest tile that, without mirroring, loses at most `FAST_LOSS` of any region's mean Dice.

    The loss is counted from the mirrored validation where there is one, else from the best tile. None: nothing was
    measured that qualifies.
    """
    found = pooled(measured)
    plain = [one for one in found if not one.mirrored and possible(one.tile)]
    if not plain:
        return None
    normal = choose_tile(measured, lambda tile: True)
    reference = next((one for one in found if one.mirrored), None) or next(one for one in found if one.tile == normal)
    wanted = _by_region(reference.dice)
    good = [
        one
        for one in plain
        if all(_by_region(one.dice).get(region, 0.0) >= value - FAST_LOSS for region, value in wanted.items())
    ]
    return min(good, key=lambda one: statistics.mean(one.seconds.values())).tile if good else None


def pooled(measured: Sequence[MeasuredTile]) -> list[MeasuredTile]:
    """One entry for each tile, its cases taken together, over the cases that all plain entries share."""
    joined: dict[tuple[Tile, bool], MeasuredTile] = {}
    for one in measured:
        before = joined.get((one.tile, one.mirrored))
        if before is not None:
            one = one.model_copy(
                update={"dice": {**before.dice, **one.dice}, "seconds": {**before.seconds, **one.seconds}}
            )
        joined[one.tile, one.mirrored] = one
    plain = [set(one.dice) for one in joined.values() if not one.mirrored]
    everywhere = set.union(*plain) if plain else set()
    return [one for one in joined.values() if one.mirrored or set(one.dice) == everywhere]


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

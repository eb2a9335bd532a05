"""One configuration for a time budget: spacing, patch, width and number of steps with the best expected Dice.

Many configurations could be trained within a budget; each is a compromise between seeing details (spacing), seeing
enough of a case at once (patch), being able to tell tissues apart (width) and having had enough steps to learn it. Each
compromise has a price in Dice, and the configuration whose prices add up to the least is taken. The prices and where
they come from stand in `docs/planning.md`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

from bts_auto.errors import PlanError
from bts_auto.plan.compute_model import layer_compute
from bts_auto.plan.layers import Layer
from bts_auto.plan.lowres import MIN_COVERAGE, Grid
from bts_auto.plan.measured import Limits, features_of, topology_layers
from bts_auto.plan.patch import NothingFits, shrink_to_fit
from bts_auto.plan.planner import Sized
from bts_auto.plan.presets import MIN_BATCH, Preset
from bts_auto.plan.reserve import (
    FORWARD_SHARE,
    patches_to_visit,
    reserved_seconds,
    validation_fits,
    validation_seconds,
)
from bts_auto.plan.topology import Topology

# Edge of the finest grid's voxels in units of the target spacing's finest axis.
FACTORS = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0)
WIDTHS = (32, 24, 16)
# Upper bounds on a patch's voxels that are tried; None: the whole median case.
_PATCHES: dict[int, tuple[int | None, ...]] = {
    3: (None, 128**3, 112**3, 96**3, 80**3, 64**3, 48**3),
    2: (None, 256**2, 192**2, 128**2, 96**2),
}
# Dice (mean of WT, TC and ET) that is lost where a perfect mask is seen at a coarser spacing and brought back.
_SPACING_PRICE = ((1.0, 0.0), (1.25, 0.033), (1.5, 0.045), (2.0, 0.06), (2.5, 0.075), (3.0, 0.087))
# Masks of networks lose less than perfect ones: part of what a coarse grid cannot show they have wrong anyway.
_SHARE_OF_SPACING = 2 / 3
# Steps after which a network segments reliably; each halving below costs more than any coarser grid.
ENOUGH_STEPS = 1000
_PRICE_OF_HALF_THE_STEPS = 0.10
# What all steps beyond that are worth together, and how fast that comes: half of it by 2700 steps.
_GAIN_OF_MORE_STEPS, _RATE_OF_GAIN = 0.06, 0.7
_PRICE_OF_HALF_THE_WIDTH = 0.01
_PRICE_OF_HALF_THE_COVERAGE = 0.02
# Parts of a budget that are not steps: starting, saving, and what the clock brings.
_START_S, _MARGIN = 15.0, 0.05
# Held-out patches cost about a third of a step each batch; an epoch of 50 steps measures 2 of them.
ITERATIONS, VALIDATION_ITERATIONS = 50, 2


@dataclass(frozen=True)
class Candidate:
    """A configuration that the budget could be spent on.

    Attributes
    ----------
    grid : Grid
    sized : Sized
    step_seconds : float
    steps : int
        That fit the budget beside the final validation.
    price : float
        Expected loss of Dice against unlimited time; see the module.
    """

    grid: Grid
    sized: Sized
    step_seconds: float
    steps: int
    price: float

    @property
    def width(self) -> int:
        """Channels of the first stage."""
        assert self.sized.features is not None
        return self.sized.features[0]

    @property
    def rank(self) -> tuple[float, int]:
        """What the best one has the least of: the lowest price, of equal ones the most steps."""
        return self.price, -self.steps


def steps_within(budget: float, step_seconds: float, patches: int, tiles: int, mirrored_axes: int) -> int:
    """Steps of so many patches that fit a budget in seconds beside the start, the held-out patches and the validation.

    0 where the validation alone would take more than its share of the budget.
    """
    per_patch = step_seconds * FORWARD_SHARE / patches
    if not validation_fits(validation_seconds(tiles, per_patch), budget):
        return 0
    left = budget * (1 - _MARGIN) - _START_S - reserved_seconds(tiles, per_patch, mirrored_axes, budget)
    per_step = step_seconds * (1 + VALIDATION_ITERATIONS / ITERATIONS * FORWARD_SHARE)
    return max(0, int(left / per_step))


def training_for(steps: int) -> dict[str, Any]:
    """Fields of `training` for so many steps: epochs of at most 50, the learning rate annealed step by step."""
    epochs = max(1, math.ceil(steps / ITERATIONS))
    return {
        "epochs": epochs,
        "iterations": max(1, steps // epochs),
        "validation_iterations": VALIDATION_ITERATIONS,
        "schedule": {"name": "poly", "options": {"per": "step"}},
    }


def coarser(spacing: Sequence[float], median: Sequence[float], factor: float) -> Grid:
    """The grid whose voxels have at least `factor` times the finest edge along each axis."""
    edge = min(spacing) * factor
    new = tuple(max(value, edge) for value in spacing)
    exact = tuple(size * old / now for size, old, now in zip(median, spacing, new, strict=True))
    return Grid(new, tuple(float(max(1, round(size))) for size in exact), math.prod(exact))


def _interpolated(factor: float) -> float:
    """Price of a grid that is `factor` times coarser than the finest."""
    for (low, a), (high, b) in pairwise(_SPACING_PRICE):
        if factor <= high:
            return a + (b - a) * (factor - low) / (high - low)
    return _SPACING_PRICE[-1][1] * factor / _SPACING_PRICE[-1][0]


def price_of(factor: float, width: int, coverage: float, steps: int) -> float:
    """Expected loss of Dice.

    Parameters
    ----------
    factor : float
        Edge of the voxels against the target spacing's.
    width : int
        Channels of the first stage.
    coverage : float
        Share of a median case that a patch shows.
    steps : int
        Optimiser steps.
    """
    context = max(0.0, math.log2(MIN_COVERAGE / min(coverage, 1.0))) * _PRICE_OF_HALF_THE_COVERAGE
    narrow = math.log2(WIDTHS[0] / width) * _PRICE_OF_HALF_THE_WIDTH
    return _SHARE_OF_SPACING * _interpolated(factor) + narrow + context + _price_of_steps(steps)


def _price_of_steps(steps: int) -> float:
    """What is lost for want of steps; negative: won by more than enough."""
    share = max(steps, 1) / ENOUGH_STEPS
    if share < 1:
        return -math.log2(share) * _PRICE_OF_HALF_THE_STEPS
    return _GAIN_OF_MORE_STEPS * (share**-_RATE_OF_GAIN - 1)


def candidates(
    spacing: Sequence[float],
    median: Sequence[float],
    preset: Preset,
    limits: Limits,
    channels: tuple[int, int],
    step_seconds: Callable[[float, int], float],
    budget: float,
    held_out: int,
    batch: int = MIN_BATCH,
    accumulation: int = 1,
) -> Iterator[Candidate]:
    """All configurations that are looked at.

    Parameters
    ----------
    spacing, median
        Of full resolution.
    limits : Limits
        Memory and precision.
    channels : tuple of int
        Of the images and of the logits.
    step_seconds : callable
        (operations of a batch in 10^12, channels of the first stage) -> seconds of a step on this machine.
    budget : float
        Seconds for training and validation.
    held_out : int
        Volumes (in 2d: slices) that the validation predicts.
    batch : int
        The smallest, since more steps teach more than larger ones, unless a recipe names another.
    accumulation : int
        Batches of a step.
    """
    dims = len(spacing)
    seen: set[tuple] = set()
    for factor in FACTORS:
        grid = coarser(spacing, median, factor)
        for width in WIDTHS:
            for voxels in _PATCHES[dims]:
                layers_of = partial(_layers, preset=preset, width=width, channels=channels)
                topology = _patch(grid, voxels, layers_of, limits, batch)
                key = (grid.spacing, width, None if topology is None else topology.patch_size)
                if topology is None or topology.n_stages < 2 or key in seen:
                    continue
                seen.add(key)
                compute = layer_compute(layers_of(topology), batch)
                seconds = step_seconds(compute.step / 1e12, width)
                tiles = held_out * patches_to_visit([round(n) for n in grid.median], topology.patch_size, 0.5)
                steps = steps_within(budget, seconds, batch * accumulation, tiles, dims)
                coverage = math.prod(min(p, n) for p, n in zip(topology.patch_size, grid.median, strict=True))
                price = price_of(factor, width, coverage / math.prod(grid.median), steps)
                sized = Sized(topology, batch, features_of(width, topology.n_stages, dims))
                yield Candidate(grid, sized, seconds, steps, price)


def _layers(topology: Topology, *, preset: Preset, width: int, channels: tuple[int, int]) -> tuple[Layer, ...]:
    return topology_layers(topology, preset, width, *channels)


def _patch(
    grid: Grid, most: int | None, layers_of: Callable[[Topology], tuple[Layer, ...]], limits: Limits, batch: int
) -> Topology | None:
    """The largest patch of at most so many voxels that the memory allows; None where there is none."""

    def too_large(topology: Topology) -> bool:
        if most is not None and math.prod(topology.patch_size) > most:
            return True
        return topology.n_stages > 1 and not limits.allow(layers_of(topology), batch)

    try:
        return shrink_to_fit(grid.spacing, grid.median, too_large)
    except NothingFits:
        return None


def choose(found: Iterable[Candidate], budget: float) -> Candidate:
    """The candidate of the lowest price; of equal ones the one with more steps.

    Raises
    ------
    NothingFits
        When there is no candidate at all: none fits the memory.
    PlanError
        When the budget allows no step of any.
    """
    every = list(found)
    if not every:
        raise NothingFits("no patch fits the memory")
    able = [one for one in every if one.steps > 0]
    if not able:
        raise no_time(budget)
    return min(able, key=lambda one: one.rank)


def no_time(budget: float) -> PlanError:
    """What is wrong with a budget in seconds that no step fits."""
    return PlanError(f"{budget:g} s leave no time for a single step beside the validation", mend="give more time")


def compared(found: Iterable[Candidate], chosen: Candidate) -> list[Candidate]:
    """The chosen candidate, then the best of each other spacing and width, and of other patches on its grid."""
    best = {"chosen": chosen}
    for one in sorted(found, key=lambda one: one.rank):
        same = one.grid.spacing == chosen.grid.spacing
        if not same:
            best.setdefault(f"spacing {one.grid.spacing}", one)
        if one.width != chosen.width:
            best.setdefault(f"width {one.width}", one)
        elif same and one.sized.topology.patch_size != chosen.sized.topology.patch_size:
            best.setdefault("patch", one)
    return list(dict.fromkeys(best.values()))

"""The patch: as large as the median case and the memory allow, in the aspect of the spacing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from bts_auto.errors import PlanError
from bts_auto.plan.topology import Topology, plan_topology

# Voxels of the patch that the search starts from, larger than any that is wanted
# (ExperimentPlanner.get_plans_for_configuration).
_START_VOXELS = {2: 2048**2, 3: 256**3}


class NothingFits(PlanError):
    """Not even the smallest network fits the memory that is planned for."""


def initial_patch(spacing: Sequence[float], median: Sequence[float]) -> tuple[float, ...]:
    """A patch of equal extent in mm along all axes, clipped to the median case.

    Parameters
    ----------
    spacing : sequence of float
        In mm.
    median : sequence of float
        Median size of the cases at that spacing, in voxels.
    """
    aspect = 1 / np.asarray(spacing, dtype=float)
    dims = len(aspect)
    wanted = aspect * (_START_VOXELS[dims] / np.prod(aspect)) ** (1 / dims)
    return tuple(min(float(round(edge)), size) for edge, size in zip(wanted.tolist(), median, strict=True))


def _smaller(spacing: Sequence[float], now: Topology, axis: int) -> Topology | None:
    """The next smaller patch along `axis`; None when the axis cannot shrink.

    The step is the divisor that holds after a first trial step: a patch of 256 = 8 * 2^5 goes to 224 = 7 * 2^5, since
    after a step of 64 the axis is pooled once less.
    """
    trial = list(now.patch_size)
    trial[axis] -= now.divisors[axis]
    step = plan_topology(spacing, trial).divisors[axis]
    wanted = list(now.patch_size)
    wanted[axis] -= step
    return plan_topology(spacing, wanted) if wanted[axis] > 0 else None


def _successor(
    spacing: Sequence[float], median: Sequence[float], now: Topology, seen: set[tuple[int, ...]]
) -> Topology | None:
    """The next patch to try: smaller along the axis that is longest relative to the median case.

    Of equal axes the last one is taken, as ``np.argsort(...)[-1]`` does in nnU-Net's planner. An axis that cannot
    shrink, or whose step leads back to a patch in `seen`, is passed over; nnU-Net v2.8.1 fails or runs for ever there.
    """
    order = sorted(range(len(median)), key=lambda axis: (now.patch_size[axis] / median[axis], axis), reverse=True)
    for axis in order:
        smaller = _smaller(spacing, now, axis)
        if smaller is not None and smaller.patch_size not in seen:
            return smaller
    return None


def shrinking(spacing: Sequence[float], median: Sequence[float]) -> Iterator[Topology]:
    """The initial patch and ever smaller ones, in the order in which they are tried.

    A step may enlarge other axes, since another topology has other divisors; it is the sequence that gets smaller.
    """
    now: Topology | None = plan_topology(spacing, initial_patch(spacing, median))
    seen: set[tuple[int, ...]] = set()
    while now is not None:
        yield now
        seen.add(now.patch_size)
        now = _successor(spacing, median, now, seen)


def shrink_to_fit(spacing: Sequence[float], median: Sequence[float], too_large: Callable[[Topology], bool]) -> Topology:
    """Shrink the initial patch until it is no longer too large.

    Raises
    ------
    NothingFits
        When no patch is small enough.
    """
    tried = []
    for topology in shrinking(spacing, median):
        if not too_large(topology):
            return topology
        tried.append(topology.patch_size)
    raise NothingFits(
        f"no patch fits the memory: even {min(tried, key=math.prod)} at a spacing of {tuple(spacing)} mm is too large",
        mend="raise --gpu-memory",
    )

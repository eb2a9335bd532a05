"""The patch: as large as the median case and the memory allow, in the aspect of the spacing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from bts_auto.errors import PlanError
from bts_auto.plan.topology import Topology, plan_topology

# Voxels of the patch that the search starts from, larger than any that is wanted
# (ExperimentPlanner.get_plans_for_configuration).
_START_VOXELS = {2: 2048**2, 3: 256**3}


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


def shrink_to_fit(
    spacing: Sequence[float], median: Sequence[float], too_large: Callable[[Topology], bool]
) -> Topology:
    """Shrink the initial patch until it is no longer too large.

    Each step shrinks the axis that is longest relative to the median case (the last one of several). An axis of a single
    voxel is left alone where nnU-Net v2.8.1 takes it to zero and fails.

    Raises
    ------
    PlanError
        When even the smallest patch is too large.
    """
    now = plan_topology(spacing, initial_patch(spacing, median))
    while too_large(now):
        # The last of equal axes: np.argsort(...)[-1] of nnU-Net's planner.
        order = sorted(range(len(median)), key=lambda axis: (now.patch_size[axis] / median[axis], axis), reverse=True)
        candidates = (_smaller(spacing, now, axis) for axis in order)
        smaller = next((found for found in candidates if found is not None), None)
        if smaller is None or math.prod(smaller.patch_size) >= math.prod(now.patch_size):
            raise PlanError(
                f"no patch fits: {now.patch_size} is the smallest that this spacing allows and needs more memory",
                mend="raise --gpu-memory",
            )
        now = smaller
    return now

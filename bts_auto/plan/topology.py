"""Depth, strides and kernels of a U-Net from spacing and patch (rule of nnU-Net v2.8.1, `network_topology.py`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Feature maps keep at least this edge (ExperimentPlanner.UNet_featuremap_min_edge_length).
MIN_EDGE = 4
# Axes are treated alike while their spacings differ by less than this factor (get_pool_and_conv_props).
_ALIKE = 2
# A single remaining axis is pooled only from this many times MIN_EDGE on (get_pool_and_conv_props).
_LONE_AXIS = 3


@dataclass(frozen=True)
class Topology:
    """What spacing and patch say about a network.

    Attributes
    ----------
    patch_size : tuple of int
        The patch, enlarged so that each axis is a multiple of its `divisors`.
    strides, kernel_sizes : tuple of tuple of int
        Per stage, from full resolution down; the first stride is 1.
    """

    patch_size: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernel_sizes: tuple[tuple[int, ...], ...]

    @property
    def n_stages(self) -> int:
        """Number of resolutions, the bottleneck included."""
        return len(self.strides)

    @property
    def divisors(self) -> tuple[int, ...]:
        """The product of the strides along each axis."""
        return tuple(math.prod(axis) for axis in zip(*self.strides, strict=True))


def _pooled_axes(spacing: Sequence[float], size: Sequence[float]) -> list[int]:
    """The axes that the next stage halves; empty when the network ends."""
    long = [axis for axis, edge in enumerate(size) if edge >= 2 * MIN_EDGE]
    if not long:
        return []
    finest = min(spacing[axis] for axis in long)
    axes = [axis for axis in long if spacing[axis] / finest < _ALIKE]
    if len(axes) == 1 and size[axes[0]] < _LONE_AXIS * MIN_EDGE:
        return []
    return axes


def plan_topology(spacing: Sequence[float], patch_size: Sequence[float]) -> Topology:
    """Halve the finest axes until feature maps get small; thick axes join once the others have caught up.

    Parameters
    ----------
    spacing : sequence of float
        In mm.
    patch_size : sequence of float
        The wanted patch; halves (from a median over cases) are allowed.

    Returns
    -------
    Topology
        A kernel's axis starts at 1 and is 3 from the stage on where its spacing comes within a factor of 2 of the
        finest; the bottleneck's kernel is 3 throughout.
    """
    current, size = [float(value) for value in spacing], [float(edge) for edge in patch_size]
    dims = len(current)
    kernel = [1] * dims
    strides: list[tuple[int, ...]] = [(1,) * dims]
    kernels: list[tuple[int, ...]] = []
    while pooled := _pooled_axes(current, size):
        finest = min(current)
        kernel = [3 if k == 3 or value / finest < _ALIKE else 1 for k, value in zip(kernel, current, strict=True)]
        kernels.append(tuple(kernel))
        strides.append(tuple(2 if axis in pooled else 1 for axis in range(dims)))
        for axis in pooled:
            current[axis] *= 2
            size[axis] = math.ceil(size[axis] / 2)
    kernels.append((3,) * dims)
    divisors = [math.prod(axis) for axis in zip(*strides, strict=True)]
    padded = tuple(math.ceil(edge / n) * n for edge, n in zip(patch_size, divisors, strict=True))
    return Topology(padded, tuple(strides), tuple(kernels))

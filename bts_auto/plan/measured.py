"""Sizes from bytes and operations: the patch, width and batch that a machine's memory and speed allow.

The patch comes first, as in nnU-Net's planner: the whole median case if it fits with the smallest batch. What is left
buys a larger batch, up to the preset's share of the dataset. The width is the usual one; it gives way only where it
would leave a patch that shows too little of a case.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bts_auto import registry
from bts_auto.errors import PlanError
from bts_auto.plan.batch import covering_batch
from bts_auto.plan.compute_model import layer_compute
from bts_auto.plan.layers import Layer, network_layers
from bts_auto.plan.memory_model import Format, layer_memory
from bts_auto.plan.patch import initial_patch, shrink_to_fit
from bts_auto.plan.planner import Sized, Sizer
from bts_auto.plan.presets import BASE_FEATURES, MAX_FEATURES, MIN_BATCH, Preset
from bts_auto.plan.topology import Topology, plan_topology

_GB = 2**30
# A training of nnU-Net's length with longer steps than this takes over a month.
LONGEST_STEP_S = 10.0
# First-stage channels that are tried, the usual one first.
_WIDTHS = (BASE_FEATURES, 24, 16)
# A narrower network is tried where the patch has fewer voxels than this and is not the whole median case.
_SMALL_PATCH = {2: 96**2, 3: 64**3}


@dataclass(frozen=True)
class Limits:
    """What a training step may take.

    Attributes
    ----------
    memory_gb : float
        Peak memory of a training step in 1024^3 bytes.
    precision : str
        Number format of the activations.
    step_tflop : float
        Operations of a step in 10^12; infinite: no limit.
    """

    memory_gb: float
    precision: Format = "fp32"
    step_tflop: float = math.inf

    def allow(self, layers: tuple[Layer, ...], batch: int) -> bool:
        """Whether a batch of a network keeps them."""
        fits = layer_memory(layers, batch, precision=self.precision).peak <= self.memory_gb * _GB
        return fits and layer_compute(layers, batch).step <= self.step_tflop * 1e12


def features_of(width: int, n_stages: int, dims: int) -> tuple[int, ...]:
    """Channels of each stage of a network that begins with `width`; the bound shrinks with it."""
    most = MAX_FEATURES[dims] * width // BASE_FEATURES
    return tuple(min(most, width * 2**stage) for stage in range(n_stages))


def topology_layers(
    topology: Topology, preset: Preset, width: int, in_channels: int, n_outputs: int
) -> tuple[Layer, ...]:
    """The layers of a preset's network."""
    stages, dims = topology.n_stages, len(topology.patch_size)
    values = {
        "features_per_stage": features_of(width, stages, dims),
        "kernel_sizes": topology.kernel_sizes,
        "strides": topology.strides,
        **preset.network_options(stages),
    }
    options = registry.options("network", preset.network, values)
    return network_layers(options, topology.patch_size, in_channels, n_outputs)


def measured_sizer(preset: Preset, limits: Limits, in_channels: int, n_outputs: int) -> Sizer:
    """Sizes that keep `limits`.

    Parameters
    ----------
    in_channels, n_outputs : int
        Channels of the images and of the logits.
    """

    def layers_of(topology: Topology, width: int) -> tuple[Layer, ...]:
        return topology_layers(topology, preset, width, in_channels, n_outputs)

    def fitted(spacing: Sequence[float], median: Sequence[float], width: int) -> Topology:
        # A case of a few voxels has a network of one stage; no larger one is shrunk to that.
        stages = plan_topology(spacing, initial_patch(spacing, median)).n_stages

        def too_large(topology: Topology) -> bool:
            if topology.n_stages == 1:
                return stages > 1
            return not limits.allow(layers_of(topology, width), MIN_BATCH)

        return shrink_to_fit(spacing, median, too_large)

    def size(spacing: Sequence[float], median: Sequence[float], dataset_voxels: float) -> Sized:
        dims = len(spacing)
        width, topology = _widest(lambda width: fitted(spacing, median, width), median, dims)
        covering = covering_batch(topology.patch_size, dataset_voxels, preset)
        if topology.n_stages == 1:
            return Sized(topology, max(MIN_BATCH, covering))
        batch = _largest_batch(layers_of(topology, width), limits, max(MIN_BATCH, covering))
        return Sized(topology, batch, features_of(width, topology.n_stages, dims))

    return size


def _widest(fit: Callable[[int], Topology], median: Sequence[float], dims: int) -> tuple[int, Topology]:
    """The usual width, or the first narrower one whose patch is not small; else the one with the largest patch."""
    found: list[tuple[int, int, Topology]] = []
    for width in _WIDTHS:
        try:
            topology = fit(width)
        except PlanError:
            if width == _WIDTHS[-1] and not found:
                raise
            continue
        if math.prod(topology.patch_size) >= min(_SMALL_PATCH[dims], math.prod(median)):
            return width, topology
        found.append((math.prod(topology.patch_size), width, topology))
    _, width, topology = max(found, key=lambda one: one[:2])
    return width, topology


def _largest_batch(layers: tuple[Layer, ...], limits: Limits, most: int) -> int:
    """The largest batch up to `most` that keeps the limits, by bisection; at least the smallest that is planned."""
    low, high = MIN_BATCH, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if limits.allow(layers, middle) else (low, middle - 1)
    return low

"""Why each choice of a plan was made, in sentences with numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from bts_auto.data.fingerprint import Fingerprint
from bts_auto.errors import PlanError
from bts_auto.plan.batch import fitting_batch
from bts_auto.plan.compute_model import plan_compute
from bts_auto.plan.expect import duration
from bts_auto.plan.lowres import MIN_COVERAGE
from bts_auto.plan.memory import feature_map_voxels
from bts_auto.plan.memory_model import plan_memory
from bts_auto.plan.normalisation import MASK_BELOW_SHARE
from bts_auto.plan.patch import initial_patch
from bts_auto.plan.presets import MIN_BATCH, PRESETS, REFERENCE_BATCH
from bts_auto.plan.schema import Plan, SegmentationConfiguration
from bts_auto.plan.spacing import ANISOTROPY, target_spacing
from bts_auto.plan.topology import Topology, plan_topology

_AXES = ("first", "second", "third")


def _times(values: Sequence[float], digits: int = 3) -> str:
    return " x ".join(f"{value:.{digits}g}" if isinstance(value, float) else str(value) for value in values)


def _edges(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)


def explain(plan: Plan, fingerprint: Fingerprint) -> list[str]:
    """The reasons for a plan that was made of `fingerprint`, one sentence or two a line."""
    lines = [*_grid(plan, fingerprint), *_normalisation(plan, fingerprint), *_measured(plan)]
    for name in plan.configurations:
        lines += [f"{name}: {line}" for line in _configuration(plan, name)]
    return [*lines, *(_stages(plan) if plan.budget_seconds is None else [])]


def _measured(plan: Plan) -> Iterator[str]:
    if plan.planner != "measured":
        return
    yield (
        f"Sizes: by the bytes and operations of a training step, for {plan.gpu_memory_gb:.1f} GB, and checked by real "
        "steps on this machine."
    )
    if plan.budget_seconds is not None:
        yield (
            f"Budget: among many spacings, patches and widths, the one with the best expected Dice of those whose "
            f"training and validation fit {duration(plan.budget_seconds)}; enough steps come before resolution, and "
            "resolution before width."
        )


def _grid(plan: Plan, fingerprint: Fingerprint) -> Iterator[str]:
    spacings = np.asarray(fingerprint.spacings, dtype=float)
    target = target_spacing(fingerprint.spacings, fingerprint.shapes_after_crop)
    median = np.median(spacings, axis=0)
    yield f"Spacing: the {len(spacings)} cases have a median spacing of {_times(median.tolist())} mm."
    coarse = plan.transpose_forward[0]
    if not math.isclose(target[coarse], median[coarse]):
        yield (
            f"Its {_AXES[coarse]} axis is more than {ANISOTROPY} times coarser than the others and has more than "
            f"{ANISOTROPY} times fewer voxels, so that its finer cases decide (10th percentile): "
            f"{target[coarse]:.3g} mm."
        )
    else:
        yield "No axis is both much coarser and much shorter than the others, so that the median is the target."
    if plan.transpose_forward != (0, 1, 2):
        yield (
            f"Axis order: the {_AXES[coarse]} axis is the coarsest and comes first, so that 2d works in the finest "
            f"plane; all sizes below are in the order {plan.transpose_forward}."
        )


def _normalisation(plan: Plan, fingerprint: Fingerprint) -> Iterator[str]:
    one = next(iter(plan.configurations))
    schemes = plan.configuration(one).normalization_schemes
    named = ", ".join(f"{channel} by {scheme}" for channel, scheme in zip(plan.channel_names, schemes, strict=True))
    yield f"Normalisation follows the channels' names: {named}."
    share = fingerprint.median_relative_size_after_cropping
    inside = "inside the non-zero mask only" if share < MASK_BELOW_SHARE else "over the whole image"
    yield (
        f"The non-zero crop keeps {share:.0%} of a median case (the bound is {MASK_BELOW_SHARE:.0%}), so that z-scores "
        f"are taken {inside}."
    )


def _configuration(plan: Plan, name: str) -> Iterator[str]:
    configuration = plan.configuration(name)
    if "patch_size" not in plan.configurations[name]:
        yield (
            f"the same as {configuration.inherits_from}, with the masks of {configuration.previous_stage} as further "
            "input channels."
        )
    else:
        yield _patch(plan, configuration)
        yield _network(configuration)
        yield _batch(plan, configuration)
    if configuration.n_stages > 1:
        yield _cost(plan, name)


def _cost(plan: Plan, name: str) -> str:
    try:
        memory, compute = plan_memory(plan, name), plan_compute(plan, name)
    except PlanError:
        network = plan.configuration(name).network.name
        return f"what a training step takes is counted for the planner's own U-Nets only, not for {network}."
    training = plan.configuration(name).training
    steps = training.epochs * training.iterations
    return (
        f"a training step takes about {memory.peak / 2**30:.1f} GB ({memory.activations / 2**30:.1f} GB kept for the "
        f"backward pass, {memory.parameters / 4e6:.1f} million parameters) and {compute.step / 1e12:.2g} TFLOP; the "
        f"planned {steps} steps take {steps * compute.step / 1e15:.3g} PFLOP."
    )


def _patch(plan: Plan, configuration: SegmentationConfiguration) -> str:
    spacing, median = configuration.spacing, configuration.median_image_size_in_voxels
    start = plan_topology(spacing, initial_patch(spacing, median)).patch_size
    share = math.prod(configuration.patch_size) / math.prod(median)
    words = f"patch {_edges(configuration.patch_size)}, {share:.0%} of the median case's {_edges(median)} voxels"
    if plan.budget_seconds is not None:
        coarse = configuration.spacing[-1] / plan.original_median_spacing_after_transp[-1]
        return f"{words}, at {_times(configuration.spacing)} mm ({coarse:.2g} times the original spacing in plane)."
    if start == configuration.patch_size:
        return f"{words}: the whole median case, padded to the network's strides, fits {plan.gpu_memory_gb:.3g} GB."
    return (
        f"{words}: shrunk from {_edges(start)}, always along the axis that is longest relative to the median case, "
        f"until it fits {plan.gpu_memory_gb:.3g} GB with the smallest batch."
    )


def _network(configuration: SegmentationConfiguration) -> str:
    deepest = _edges([edge // n for edge, n in zip(configuration.patch_size, configuration.divisors, strict=True)])
    thin = sum(1 for kernel in configuration.kernel_sizes if min(kernel) == 1)
    words = (
        f"{configuration.n_stages} stages halve the patch down to {deepest} voxels, where the next halving would leave "
        f"fewer than 4, with {configuration.features_per_stage[0]} to {configuration.features_per_stage[-1]} channels."
    )
    if thin:
        words += f" The first {thin} do not convolve along the coarse axis until the finer ones have caught up with it."
    return words


def _batch(plan: Plan, configuration: SegmentationConfiguration) -> str:
    if plan.planner == "measured":
        return _measured_batch(plan, configuration)
    preset = PRESETS[plan.preset]
    topology = Topology(configuration.patch_size, configuration.strides, configuration.kernel_sizes)
    voxels = feature_map_voxels(topology, preset, len(plan.labels))
    reference = preset.reference_voxels(configuration.dims, plan.gpu_memory_gb)
    fitting = fitting_batch(voxels, preset, configuration.dims, plan.gpu_memory_gb)
    words = (
        f"batch {configuration.batch_size}: one sample has {voxels / 1e6:.0f} million feature-map voxels and "
        f"{plan.gpu_memory_gb:g} GB stand for {reference / 1e6:.0f} million at a batch of "
        f"{REFERENCE_BATCH[configuration.dims]}"
    )
    if configuration.batch_size < fitting:
        share = f"{preset.max_dataset_share:.0%}"
        return f"{words}, which makes a batch of {fitting}; a larger one would cover over {share} of the dataset."
    if configuration.batch_size == MIN_BATCH and fitting < MIN_BATCH:
        return f"{words}; {MIN_BATCH} is the smallest batch."
    return f"{words}."


def _measured_batch(plan: Plan, configuration: SegmentationConfiguration) -> str:
    words = f"batch {configuration.batch_size}"
    training = configuration.training
    if plan.budget_seconds is not None:
        return (
            f"{words}, the smallest that is planned, since more steps teach more than larger ones; "
            f"{training.epochs * training.iterations} steps fit the time."
        )
    share = f"{PRESETS[plan.preset].max_dataset_share:.0%}"
    return (
        f"{words}: the largest that memory and the time of a step allow and that covers at most {share} of the dataset."
    )


def _stages(plan: Plan) -> Iterator[str]:
    if "3d_fullres" not in plan.configurations:
        yield "3d: not planned, since the cases are single slices."
        return
    full = plan.configuration("3d_fullres")
    share = math.prod(full.patch_size) / math.prod(full.median_image_size_in_voxels)
    if "3d_lowres" in plan.configurations:
        low = plan.configuration("3d_lowres")
        yield (
            f"Cascade: a patch of 3d_fullres shows {share:.0%} of a median case (the bound is {MIN_COVERAGE:.0%}), so "
            f"that 3d_lowres goes before it at {_times(low.spacing)} mm, where a patch shows "
            f"{math.prod(low.patch_size) / math.prod(low.median_image_size_in_voxels):.0%}."
        )
    elif share < MIN_COVERAGE:
        yield (
            f"No cascade: a patch of 3d_fullres shows {share:.0%} of a median case, but a coarser grid that shows more "
            "would have over half of its voxels."
        )
    else:
        yield f"No cascade: a patch of 3d_fullres shows {share:.0%} of a median case (the bound is {MIN_COVERAGE:.0%})."

"""Why each choice of a plan was made, in sentences with numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from bts_auto.data.fingerprint import Fingerprint
from bts_auto.errors import PlanError
from bts_auto.plan.batch import covering_batch, fitting_batch
from bts_auto.plan.compute_model import layer_compute, plan_compute
from bts_auto.plan.expect import duration
from bts_auto.plan.layers import Layer
from bts_auto.plan.lowres import MIN_COVERAGE
from bts_auto.plan.measured import LONGEST_STEP_S, topology_layers
from bts_auto.plan.memory import feature_map_voxels
from bts_auto.plan.memory_model import Format, layer_memory, plan_memory
from bts_auto.plan.normalisation import MASK_BELOW_SHARE
from bts_auto.plan.patch import shrinking
from bts_auto.plan.presets import MIN_BATCH, PRESETS, REFERENCE_BATCH
from bts_auto.plan.schema import Considered, Plan, SegmentationConfiguration
from bts_auto.plan.spacing import ANISOTROPY, target_spacing, thick_axis
from bts_auto.plan.topology import Topology

_AXES = ("first", "second", "third")


def _times(values: Sequence[float], digits: int = 3) -> str:
    return " x ".join(f"{value:.{digits}g}" if isinstance(value, float) else str(value) for value in values)


def _edges(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)


def explain(plan: Plan, fingerprint: Fingerprint) -> list[str]:
    """The reasons for a plan that was made of `fingerprint`, one sentence or two a line."""
    lines = [*_grid(plan, fingerprint), *_normalisation(plan, fingerprint), *_sizes(plan)]
    for name in plan.configurations:
        lines += [f"{name}: {line}" for line in _configuration(plan, name, fingerprint)]
    return [*lines, *(_stages(plan) if plan.budget_seconds is None else [])]


def _sizes(plan: Plan) -> Iterator[str]:
    if plan.planner == "nnunet":
        yield (
            f"Sizes: nnU-Net's rules for a GPU of {plan.gpu_memory_gb:.3g} GB, which count voxels of feature maps; "
            "neither this machine's memory nor its speed is looked at."
        )
        return
    if plan.asked is not None and plan.asked.hardware is None:
        yield (
            f"Sizes: a training step must fit {plan.gpu_memory_gb:.3g} GB of a GPU that is not here; that is foretold "
            "from the network's layers, and no step was tried."
        )
        return
    hardware = next((one.hardware for one in plan.expected.values() if one.hardware), "this machine")
    longest = "" if plan.budget_seconds is not None else f" and take about {LONGEST_STEP_S:g} s at most on {hardware}"
    yield (
        f"Sizes: a training step must fit {plan.gpu_memory_gb:.3g} GB{longest}; both are foretold from the network's "
        "layers and tried by real steps."
    )
    if plan.budget_seconds is not None:
        yield (
            f"Budget: among many spacings, patches and widths, the one with the best expected Dice of those whose "
            f"training and validation fit {duration(plan.budget_seconds)}; enough steps come before resolution, and "
            "resolution before width."
        )
    for number, one in enumerate(plan.considered):
        yield _price(one, taken=number == 0)


def _price(one: Considered, *, taken: bool) -> str:
    """What a configuration under a time budget costs, as it was foretold when it was chosen."""
    words = f"{_times(one.spacing)} mm with patch {_edges(one.patch_size)} and {one.channels} channels"
    if one.steps < 1:
        return f"Not taken: {words} would leave no time for a single step."
    price = f"an expected loss of {one.price:.3f} in mean Dice against unlimited time"
    if taken:
        return f"Taken: {words}, which was foretold to leave {one.steps} steps, {price}."
    return f"Not taken: {words} would leave {one.steps} steps, {price}."


def _grid(plan: Plan, fingerprint: Fingerprint) -> Iterator[str]:
    spacings = np.asarray(fingerprint.spacings, dtype=float)
    target = target_spacing(fingerprint.spacings, fingerprint.shapes_after_crop)
    median = np.median(spacings, axis=0)
    yield f"Spacing: the {len(spacings)} cases have a median spacing of {_times(median.tolist())} mm."
    thick, coarse = thick_axis(fingerprint.spacings, fingerprint.shapes_after_crop), plan.transpose_forward[0]
    if thick is not None:
        same = ", the median as well" if math.isclose(target[thick], median[thick]) else ""
        yield (
            f"Its {_AXES[thick]} axis is more than {ANISOTROPY} times coarser than the others and has more than "
            f"{ANISOTROPY} times fewer voxels, so that its finer cases decide (10th percentile): "
            f"{target[thick]:.3g} mm{same}."
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


def _configuration(plan: Plan, name: str, fingerprint: Fingerprint) -> Iterator[str]:
    configuration = plan.configuration(name)
    if "patch_size" not in plan.configurations[name]:
        yield (
            f"the same as {configuration.inherits_from}, with the masks of {configuration.previous_stage} as further "
            "input channels."
        )
    else:
        yield _patch(plan, name)
        yield _network(configuration)
        yield _measured_batch(plan, name, fingerprint) if plan.planner == "measured" else _batch(plan, configuration)
    if configuration.n_stages > 1:
        yield _cost(plan, name)


def _cost(plan: Plan, name: str) -> str:
    try:
        memory, compute = plan_memory(plan, name, precision=_format(plan, name)), plan_compute(plan, name)
    except PlanError:
        network = plan.configuration(name).network.name
        return f"what a training step takes is counted for the planner's own U-Nets only, not for {network}."
    training, expected = plan.configuration(name).training, plan.expected.get(name)
    steps, tflop = training.epochs * training.iterations, compute.step / 1e12
    words = (
        f"a training step takes about {memory.peak / 2**30:.1f} GB ({memory.activations / 2**30:.1f} GB kept for the "
        f"backward pass, {memory.parameters / 4e6:.1f} million parameters) and {tflop:.2g} TFLOP"
    )
    length = f"{training.epochs} epochs of {training.iterations} steps"
    if expected is None or expected.step_seconds is None or expected.epoch_seconds is None:
        return f"{words}; {length} take {steps * tflop / 1e3:.3g} PFLOP. No step was timed here yet to say how long."
    return (
        f"{words}, done in {duration(expected.step_seconds)} at the measured "
        f"{training.accumulation * tflop / expected.step_seconds:.2g} TFLOP a second of {expected.hardware}; {length}, "
        f"with their held-out patches, take {duration(training.epochs * expected.epoch_seconds)}."
    )


def _format(plan: Plan, name: str) -> Format | None:
    """The number format of the step that was measured, where the plan leaves it open."""
    expected, planned = plan.expected.get(name), plan.configuration(name).training.precision
    return expected.precision if expected is not None and planned == "auto" else None


def _patch(plan: Plan, name: str) -> str:
    configuration = plan.configuration(name)
    median, gb = configuration.median_image_size_in_voxels, f"{plan.gpu_memory_gb:.3g} GB"
    share = math.prod(configuration.patch_size) / math.prod(median)
    words = f"patch {_edges(configuration.patch_size)}"
    part = f"{words}, {share:.0%} of the median case's {_edges(median)} voxels"
    if plan.budget_seconds is not None:
        coarse = configuration.spacing[-1] / plan.original_median_spacing_after_transp[-1]
        return f"{part}, at {_times(configuration.spacing)} mm ({coarse:.2g} times the original spacing in plane)."
    start, larger = _tried_before(configuration)
    if start is None:
        return f"{part}, as it was set."
    if larger is None:
        return f"{words}: the whole median case of {_edges(median)} voxels, padded to the network's strides, fits {gb}."
    bound = f"it fits {gb} with the smallest batch"
    if plan.planner == "measured" and larger.n_stages > 1:
        bound = _bound(plan, name, larger)
    return (
        f"{part}: shrunk from {_edges(start.patch_size)}, always along the axis that is longest relative to the median "
        f"case, until {bound}."
    )


def _tried_before(configuration: SegmentationConfiguration) -> tuple[Topology | None, Topology | None]:
    """The largest patch, and the one that was tried before the chosen one (None: the chosen one is the largest); the
    largest is None where the patch is none of those that a planner looks at."""
    tried = list(shrinking(configuration.spacing, configuration.median_image_size_in_voxels))
    at = next((i for i, one in enumerate(tried) if one.patch_size == configuration.patch_size), None)
    return (None, None) if at is None else (tried[0], tried[at - 1] if at else None)


def _layers(plan: Plan, name: str, topology: Topology) -> tuple[Layer, ...]:
    width = plan.configuration(name).features_per_stage[0]
    return topology_layers(topology, PRESETS[plan.preset], width, *plan.network_channels(name))


def _bound(plan: Plan, name: str, larger: Topology) -> str:
    """Which of the two limits a larger patch would have broken."""
    layers, patch = _layers(plan, name, larger), _edges(larger.patch_size)
    gb = layer_memory(layers, MIN_BATCH, precision=_format(plan, name) or "fp32").peak / 2**30
    if gb > plan.gpu_memory_gb:
        return f"it fits the memory with the smallest batch ({patch} would take {gb:.1f} GB)"
    tflop = layer_compute(layers, MIN_BATCH).step / 1e12
    time = f"a step with the smallest batch takes about {LONGEST_STEP_S:g} s at most"
    return f"{time} ({patch} would fit with {gb:.1f} GB, but has {tflop:.2g} TFLOP)"


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


def _measured_batch(plan: Plan, name: str, fingerprint: Fingerprint) -> str:
    configuration = plan.configuration(name)
    training, preset, batch = configuration.training, PRESETS[plan.preset], configuration.batch_size
    words = f"batch {batch}"
    if plan.budget_seconds is not None:
        return (
            f"{words}, the smallest that is planned, since more steps teach more than larger ones; "
            f"{training.epochs * training.iterations} steps fit the time."
        )
    grid = plan.configuration("3d_fullres" if name == "2d" and "3d_fullres" in plan.configurations else name)
    voxels = math.prod(grid.median_image_size_in_voxels) * len(fingerprint.spacings)
    share, covering = f"{preset.max_dataset_share:.0%}", covering_batch(configuration.patch_size, voxels, preset)
    if batch >= covering:
        least = "the smallest that is planned; a larger one" if covering <= MIN_BATCH else "a larger one"
        return f"{words}: {least} would cover over {share} of the dataset's voxels."
    if batch == MIN_BATCH and configuration.n_stages == 1:
        return f"{words}, the smallest that is planned."
    topology = Topology(configuration.patch_size, configuration.strides, configuration.kernel_sizes)
    layers = _layers(plan, name, topology)
    gb = layer_memory(layers, batch + 1, precision=_format(plan, name) or "fp32").peak / 2**30
    if gb > plan.gpu_memory_gb:
        return f"{words}: {batch + 1} would take {gb:.1f} GB."
    return f"{words}: {batch + 1} would fit the memory, but a step of it would take too long."


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

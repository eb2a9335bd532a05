"""From a fingerprint to a plan, by nnU-Net v2.8.1's default rules (`ExperimentPlanner.plan_experiment`).

Equal in every size to that planner and its residual-encoder presets. Where it fails or runs for ever (axes of a single
voxel that are not the coarsest, memory targets that nothing fits), this one plans or says what is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from bts_auto.data.fingerprint import Fingerprint
from bts_auto.data.labels import Labels
from bts_auto.documents import parse
from bts_auto.errors import PlanError
from bts_auto.plan.batch import batch_size, patch_is_too_large
from bts_auto.plan.lowres import Grid, plan_lowres
from bts_auto.plan.memory import feature_map_voxels
from bts_auto.plan.normalisation import normalisation_schemes
from bts_auto.plan.patch import shrink_to_fit
from bts_auto.plan.presets import Preset, features_per_stage, find_preset
from bts_auto.plan.schema import Component, Inference, Plan, SegmentationConfiguration
from bts_auto.plan.spacing import axis_order, median_shape, target_spacing, transposed
from bts_auto.plan.topology import Topology

FULLRES, LOWRES, CASCADE, FLAT = "3d_fullres", "3d_lowres", "3d_cascade_fullres", "2d"


@dataclass(frozen=True)
class Sized:
    """A network that fits: its topology (with the patch), its batch, and its channels (None: the usual ones)."""

    topology: Topology
    batch_size: int
    features: tuple[int, ...] | None = None


class Sizer(Protocol):
    """Finds patch, topology and batch for a grid. `dataset_voxels`: of all training cases on that grid."""

    def __call__(self, spacing: Sequence[float], median: Sequence[float], dataset_voxels: float) -> Sized:
        """Size one configuration."""


def nnunet_sizer(preset: Preset, gpu_memory_gb: float, n_outputs: int) -> Sizer:
    """nnU-Net's sizes: feature-map voxels against a reference that is linear in the GPU's memory."""

    def size(spacing: Sequence[float], median: Sequence[float], dataset_voxels: float) -> Sized:
        dims = len(spacing)

        def too_large(topology: Topology) -> bool:
            return patch_is_too_large(feature_map_voxels(topology, preset, n_outputs), preset, dims, gpu_memory_gb)

        topology = shrink_to_fit(spacing, median, too_large)
        voxels = feature_map_voxels(topology, preset, n_outputs)
        return Sized(topology, batch_size(voxels, topology.patch_size, dataset_voxels, preset, gpu_memory_gb))

    return size


@dataclass(frozen=True)
class _Dataset:
    """What the rules need to know of dataset.json."""

    channels: tuple[str, ...]
    n_outputs: int
    n_training: int

    @classmethod
    def read(cls, dataset: Mapping[str, Any], n_cases: int) -> _Dataset:
        names = dataset.get("channel_names") or dataset.get("modality")
        if not names:
            raise PlanError("no channels are named", where="dataset.json", mend="list them under 'channel_names'")
        if not dataset.get("labels"):
            raise PlanError("no labels are named", where="dataset.json", mend="list them under 'labels'")
        channels = tuple(str(names[key]) for key in sorted(names, key=int))
        n_training = int(dataset.get("numTraining", n_cases))
        if n_training < 1:
            raise PlanError(f"numTraining is {n_training}", where="dataset.json", mend="count the training cases")
        return cls(channels, len(dataset["labels"]), n_training)


def _check(fingerprint: Fingerprint, dataset: _Dataset, gpu_memory_gb: float) -> None:
    """Refuse what cannot be planned for."""
    spacings, shapes = fingerprint.spacings, fingerprint.shapes_after_crop
    if not spacings:
        raise PlanError("the fingerprint holds no case", mend="add training cases, then run bts_fingerprint")
    if len(spacings) != len(shapes):
        raise PlanError(f"the fingerprint holds {len(spacings)} spacings but {len(shapes)} shapes")
    for what, values in (("spacings", spacings), ("shapes", shapes)):
        if any(len(one) != 3 or not all(math.isfinite(v) and v > 0 for v in one) for one in values):
            raise PlanError(f"the fingerprint's {what} must be three positive numbers for each case")
    known = len(fingerprint.foreground_intensity_properties_per_channel)
    if known != len(dataset.channels):
        raise PlanError(
            f"dataset.json names {len(dataset.channels)} channels but the fingerprint measured {known}",
            mend="run bts_fingerprint again",
        )
    if not (math.isfinite(gpu_memory_gb) and gpu_memory_gb > 0):
        raise PlanError(f"cannot plan for {gpu_memory_gb} GB of GPU memory", mend="give a positive number of GB")


def planned_configuration(
    sized: Sized,
    spacing: Sequence[float],
    median: Sequence[float],
    preset: Preset,
    normalisation: tuple[list[str], list[bool]],
    **fields: Any,
) -> dict[str, Any]:
    """A configuration as it stands in the plan, every default written out."""
    topology, dims = sized.topology, len(spacing)
    values = {
        "spacing": tuple(spacing),
        "patch_size": topology.patch_size,
        "batch_size": sized.batch_size,
        "median_image_size_in_voxels": tuple(median),
        "n_stages": topology.n_stages,
        "features_per_stage": sized.features or features_per_stage(topology.n_stages, dims),
        "kernel_sizes": topology.kernel_sizes,
        "strides": topology.strides,
        "normalization_schemes": normalisation[0],
        "use_mask_for_norm": normalisation[1],
        "network": Component(name=preset.network, options=preset.network_options(topology.n_stages)),
        "inference": Inference(mirror_axes=tuple(range(dims))),
    }
    return parse(SegmentationConfiguration, values | fields).model_dump(mode="json")


def _configurations(
    spacing: tuple[float, ...],
    median: tuple[float, ...],
    n_training: int,
    preset: Preset,
    normalisation: tuple[list[str], list[bool]],
    size: Sizer,
) -> dict[str, dict[str, Any]]:
    """2d always; 3d_fullres unless the cases are slices; 3d_lowres and the cascade where a patch shows too little."""
    dataset_voxels = float(np.prod(median)) * n_training
    flat = planned_configuration(
        size(spacing[1:], median[1:], dataset_voxels), spacing[1:], median[1:], preset, normalisation, batch_dice=True
    )
    found = {FLAT: flat}
    if median[0] == 1:
        return found
    full = size(spacing, median, dataset_voxels)

    def plan(grid: Grid) -> tuple[Sized, Sequence[int]]:
        sized = size(grid.spacing, grid.median, grid.voxels * n_training)
        return sized, sized.topology.patch_size

    low = plan_lowres(spacing, median, full.topology.patch_size, plan)
    if low is not None:
        grid, sized = low
        found[LOWRES] = planned_configuration(
            sized, grid.spacing, grid.median, preset, normalisation, batch_dice=False, next_stage=CASCADE
        )
    # Where a coarser configuration exists, patches of the full one show too little of a case for a Dice of their own.
    found[FULLRES] = planned_configuration(full, spacing, median, preset, normalisation, batch_dice=low is not None)
    if low is not None:
        found[CASCADE] = {"inherits_from": FULLRES, "previous_stage": LOWRES}
    return found


def make_plan(
    fingerprint: Fingerprint,
    dataset: Mapping[str, Any],
    *,
    gpu_memory_gb: float | None = None,
    preset: str = "plain",
    dataset_name: str,
    sizer: Sizer | None = None,
) -> Plan:
    """Plan a dataset.

    Parameters
    ----------
    fingerprint : Fingerprint
        Of the training cases.
    dataset : mapping
        Content of dataset.json.
    gpu_memory_gb : float, optional
        Memory target in GB; None: the preset's own (8, and 24 or 40 for `resenc_l` and `resenc_xl`).
    preset : str
        ``plain``, ``resenc_m``, ``resenc_l`` or ``resenc_xl``.
    dataset_name : str
        Name of the dataset's folder.
    sizer : callable, optional
        Sizes the configurations; None: by nnU-Net's rules.

    Raises
    ------
    PlanError
        When planning is impossible: no case, sizes that contradict each other, nothing that fits the memory.
    DataError
        When the labels of dataset.json contradict each other.
    """
    chosen = find_preset(preset)
    memory = float(chosen.reference_gb if gpu_memory_gb is None else gpu_memory_gb)
    content = _Dataset.read(dataset, len(fingerprint.spacings))
    Labels.from_dataset(dataset)
    _check(fingerprint, content, memory)
    spacings, shapes = fingerprint.spacings, fingerprint.shapes_after_crop
    target = target_spacing(spacings, shapes)
    forward, backward = axis_order(target)
    median = median_shape(spacings, shapes, target)
    if min(median) < 1:
        raise PlanError(f"the median case has no voxel left at the spacing {target} mm: {median}")
    normalisation = normalisation_schemes(content.channels, fingerprint.median_relative_size_after_cropping)
    configurations = _configurations(
        transposed(target, forward),
        transposed(median, forward),
        content.n_training,
        chosen,
        normalisation,
        sizer or nnunet_sizer(chosen, memory, content.n_outputs),
    )
    original_spacing = np.median(np.asarray(spacings, dtype=float), axis=0).tolist()
    original_shape = np.median(np.asarray(shapes, dtype=float), axis=0).tolist()
    values = {
        "dataset_name": dataset_name,
        "planner": "nnunet" if sizer is None else "measured",
        "preset": chosen.name,
        "gpu_memory_gb": memory,
        "fingerprint_hash": fingerprint.content_hash(),
        "channel_names": content.channels,
        "labels": dataset["labels"],
        "regions_class_order": dataset.get("regions_class_order") or None,
        "submission_labels": dataset.get("submission_labels") or {},
        "soft_labels": dataset.get("soft_labels") or {},
        "file_ending": dataset.get("file_ending", ".nii.gz"),
        "transpose_forward": forward,
        "transpose_backward": backward,
        "original_median_spacing_after_transp": transposed(original_spacing, forward),
        "original_median_shape_after_transp": [round(value) for value in transposed(original_shape, forward)],
        "foreground_intensity_properties_per_channel": fingerprint.model_dump(mode="json")[
            "foreground_intensity_properties_per_channel"
        ],
        "configurations": configurations,
    }
    return parse(Plan, values)

"""The batch: what memory is left for after the patch, within a share of the dataset."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bts_auto.plan.presets import MIN_BATCH, REFERENCE_BATCH, Preset


def patch_is_too_large(voxels: int, preset: Preset, dims: int, gpu_memory_gb: float) -> bool:
    """Whether a network of `voxels` feature-map voxels exceeds the memory target with the smallest batch."""
    counted = voxels / REFERENCE_BATCH[dims] * MIN_BATCH if preset.batch_aware else voxels
    return counted > preset.reference_voxels(dims, gpu_memory_gb)


def fitting_batch(voxels: int, preset: Preset, dims: int, gpu_memory_gb: float) -> int:
    """Samples of `voxels` feature-map voxels that the memory target stands for, rounded; 0 and 1 occur."""
    return round(preset.reference_voxels(dims, gpu_memory_gb) / voxels * REFERENCE_BATCH[dims])


def covering_batch(patch_size: Sequence[int], dataset_voxels: float, preset: Preset) -> int:
    """Samples that cover the preset's share of the dataset, rounded; 0 and 1 occur."""
    return round(dataset_voxels * preset.max_dataset_share / float(math.prod(patch_size)))


def batch_size(
    voxels: int, patch_size: Sequence[int], dataset_voxels: float, preset: Preset, gpu_memory_gb: float
) -> int:
    """Samples per step.

    Parameters
    ----------
    voxels : int
        Feature-map voxels of one sample.
    dataset_voxels : float
        Voxels of all training cases at the configuration's spacing; a batch covers at most the preset's share of them,
        which guards against overfitting small datasets.
    """
    fitting = fitting_batch(voxels, preset, len(patch_size), gpu_memory_gb)
    return max(min(fitting, covering_batch(patch_size, dataset_voxels, preset)), MIN_BATCH)

"""Small plans and volumes for the tests of this room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bts_auto.data.volume import Geometry, Volume
from bts_auto.plan.schema import Plan

STATISTICS = {"mean": 350.0, "std": 60.0, "median": 340.0, "min": 1.0, "max": 900.0,
              "percentile_00_5": 100.0, "percentile_99_5": 600.0}  # fmt: skip


def make_configuration(
    spacing: Sequence[float] = (1.0, 1.0, 1.0), patch_size: Sequence[int] = (8, 8, 8), n_channels: int = 2, **more: Any
) -> dict[str, Any]:
    """A configuration whose network never matters here."""
    dims = len(patch_size)
    return {
        "spacing": list(spacing),
        "patch_size": list(patch_size),
        "batch_size": 2,
        "median_image_size_in_voxels": [16.0] * dims,
        "n_stages": 1,
        "features_per_stage": [4],
        "kernel_sizes": [[3] * dims],
        "strides": [[1] * dims],
        "batch_dice": False,
        "normalization_schemes": ["ZScoreNormalization"] * n_channels,
        "use_mask_for_norm": [True] * n_channels,
    } | more


def make_plan(configurations: Mapping[str, dict[str, Any]] | None = None, n_channels: int = 2, **more: Any) -> Plan:
    """A plan with 2d, 3d_fullres, 3d_lowres and the cascade's second stage, or with `configurations`."""
    if configurations is None:
        configurations = {
            "2d": make_configuration((1.0, 1.0), (8, 8)),
            "3d_lowres": make_configuration((1.5, 1.5, 1.5)),
            "3d_fullres": make_configuration(),
            "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        }
    values = {
        "dataset_name": "Dataset001_Tiny",
        "channel_names": [f"channel {index}" for index in range(n_channels)],
        "labels": {"background": 0, "necrosis": 1, "edema": 2, "enhancing": 3},
        "transpose_forward": (0, 1, 2),
        "transpose_backward": (0, 1, 2),
        "original_median_spacing_after_transp": (1.0, 1.0, 1.0),
        "original_median_shape_after_transp": (16.0, 16.0, 16.0),
        "foreground_intensity_properties_per_channel": {str(index): STATISTICS for index in range(n_channels)},
        "configurations": dict(configurations),
    }
    return Plan.model_validate(values | more)


def make_volume(
    shape: tuple[int, int, int] = (12, 14, 16),
    n_channels: int = 2,
    seed: int = 0,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    direction: Sequence[float] = (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0),
) -> Volume:
    """Noise with a margin of zeros of two voxels."""
    array = np.zeros((n_channels, *shape), np.float32)
    inner = tuple(slice(2, n - 2) if n > 4 else slice(None) for n in shape)
    random = np.random.default_rng(seed)
    array[(slice(None), *inner)] = random.normal(300, 50, size=array[(slice(None), *inner)].shape)
    geometry = Geometry(shape, spacing, direction=tuple(float(v) for v in direction))
    return Volume(array, geometry, tuple(f"channel {index}" for index in range(n_channels)))

"""A small plan and a trained fold of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from bts_auto.model.build import build_network
from bts_auto.model.fold import FoldRecord, TrainedFold, write_fold
from bts_auto.model.layout import FoldName, fold_folder
from bts_auto.plan.schema import Plan

NAME = "3d_fullres"
LABELS = {"background": 0, "edema": 1, "core": 2}
REGIONS = {"labels": {"background": 0, "whole": (1, 2), "core": (2,)}, "regions_class_order": (1, 2)}


def tiny_plan(network: str = "plain_unet", options: dict[str, Any] | None = None, **changes: Any) -> Plan:
    """Two channels, two labels, three stages, and a cascade's second stage; `changes` replace fields of the plan."""
    lowres = {
        "spacing": (2.0, 2.0, 2.0),
        "patch_size": (4, 8, 8),
        "batch_size": 2,
        "median_image_size_in_voxels": (8.0, 16.0, 16.0),
        "n_stages": 3,
        "features_per_stage": (4, 6, 8),
        "kernel_sizes": ((1, 3, 3), (3, 3, 3), (3, 3, 3)),
        "strides": ((1, 1, 1), (1, 2, 2), (2, 2, 2)),
        "batch_dice": False,
        "normalization_schemes": ("ZScoreNormalization",) * 2,
        "use_mask_for_norm": (True, False),
        "network": {"name": network, "options": options or {}},
        "inference": {"mirror_axes": (0, 1)},
        "next_stage": "3d_cascade_fullres",
    }
    values: dict[str, Any] = {
        "dataset_name": "Dataset001_Tiny",
        "channel_names": ("T1", "FLAIR"),
        "labels": LABELS,
        "transpose_forward": (0, 1, 2),
        "transpose_backward": (0, 1, 2),
        "original_median_spacing_after_transp": (1.0, 1.0, 1.0),
        "original_median_shape_after_transp": (16, 16, 16),
        "foreground_intensity_properties_per_channel": {"0": {"mean": 1.0, "std": 2.0}},
        "configurations": {
            "3d_lowres": lowres,
            NAME: {"inherits_from": "3d_lowres", "spacing": (1.0, 1.0, 1.0), "next_stage": None},
            "3d_cascade_fullres": {"inherits_from": NAME, "previous_stage": "3d_lowres"},
        },
    }
    return Plan.from_values(Plan(**(values | changes)).model_dump(mode="json"))


def tiny_fold(
    results: Path, plan: Plan | None = None, fold: FoldName = 0, name: str = NAME, seed: int = 0
) -> TrainedFold:
    """A fold below `results`, with weights that no training made."""
    plan = plan or tiny_plan()
    network = build_network(plan, name, seed=seed)
    with torch.no_grad():
        for index, parameter in enumerate(network.parameters()):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index)))
    record = FoldRecord(configuration=name, fold=fold, epoch=7, dataset={"numTraining": 4})
    return write_fold(fold_folder(results, plan.recipe, name, fold), plan, network.state_dict(), record)


def logits(network: nn.Module, channels: int = 2) -> torch.Tensor:
    """Of a fixed image."""
    x = torch.randn(1, channels, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return network(x)["logits"][0]

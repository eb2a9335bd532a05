"""A tiny dataset that is planned by hand for a cascade, and preprocessed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from bts_auto import steps
from bts_auto.plan.schema import Plan
from tests.make_data import TUMOUR, make_raw_dataset

NAME = "Dataset007_Tiny"
FIRST, SECOND = "3d_lowres", "3d_cascade_fullres"
SPLITS = (("case_000", "case_001"), ("case_002", "case_003"))


def _plan() -> Plan:
    configuration = {
        "spacing": (1.0, 1.0, 1.0),
        "patch_size": (8, 8, 8),
        "batch_size": 1,
        "median_image_size_in_voxels": (20.0, 24.0, 22.0),
        "n_stages": 2,
        "features_per_stage": (4, 8),
        "kernel_sizes": ((3, 3, 3), (3, 3, 3)),
        "strides": ((1, 1, 1), (2, 2, 2)),
        "batch_dice": False,
        "normalization_schemes": ("ZScoreNormalization",) * 2,
        "use_mask_for_norm": (False, False),
        "training": {"epochs": 1, "iterations": 2, "validation_iterations": 1, "precision": "fp32"},
        "inference": {"mirror_axes": ()},
    }
    return Plan(
        dataset_name=NAME,
        channel_names=("T1", "FLAIR"),
        labels=dict(TUMOUR),
        transpose_forward=(0, 1, 2),
        transpose_backward=(0, 1, 2),
        original_median_spacing_after_transp=(1.0, 1.0, 1.0),
        original_median_shape_after_transp=(20, 24, 22),
        foreground_intensity_properties_per_channel={},
        configurations={
            "3d_fullres": configuration,
            FIRST: {"inherits_from": "3d_fullres", "spacing": (2.0, 2.0, 2.0), "next_stage": SECOND},
            SECOND: {"inherits_from": "3d_fullres", "previous_stage": FIRST},
        },
    )


def make_workspace(folder: Path) -> Path:
    """A workspace with four preprocessed cases and two folds."""
    workspace = folder / "workspace"
    (workspace / "raw").mkdir(parents=True)
    shutil.move(make_raw_dataset(folder / "made", n_cases=4), workspace / "raw" / NAME)
    shutil.rmtree(folder / "made")
    prepared = workspace / "preprocessed" / NAME
    prepared.mkdir(parents=True)
    _plan().save(prepared / "plan.json")
    folds = [{"train": list(SPLITS[1 - i]), "val": list(SPLITS[i])} for i in range(2)]
    (prepared / "splits_final.json").write_text(json.dumps(folds))
    outcome = steps.preprocess(workspace=workspace, configurations=[SECOND], workers=1)
    assert not outcome.failures
    return workspace

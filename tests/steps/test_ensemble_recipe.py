"""From a recipe of two networks to masks: trained on regions of plain labels, chosen and predicted with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from bts_auto import steps
from bts_auto.data.readers import read_mask
from tests.make_data import make_raw_dataset

SHORT = {"epochs": 1, "iterations": 1, "device": "cpu", "workers": 0}
# Far from the search's reach: with networks that are hardly trained any choice is chance, so there is no other.
RECIPE = {
    "about": "Two small networks, one on labels, one on regions.",
    "configuration": {
        "patch_size": [16, 16, 16],
        "n_stages": 2,
        "features_per_stage": [4, 6],
        "kernel_sizes": [[3, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [2, 2, 2]],
        "inference": {"mirror_axes": []},
    },
    "members": {
        "unpooling": {"target": "regions", "configuration": {"network": {"name": "unpooling_unet"}}},
        "deepseg": {"configuration": {"network": {"name": "deepseg"}}},
    },
    "combiner": {"name": "region_channels", "options": {"members": {"WT": 0, "TC": 1, "ET": 1}}},
    "postprocessing": [
        {"name": "thresholds", "options": {"values": {"WT": 0.3}}},
        {"name": "volume_gate", "options": {"at_most_ml": 1e6, "other": "necrosis", "above_ml": 0.0}},
    ],
}


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    shutil.move(make_raw_dataset(tmp_path / "made", n_cases=2), tmp_path / "raw" / "Dataset007_Tiny")
    steps.plan_and_preprocess(workspace=tmp_path, gpu_memory=1, configurations=["3d_fullres"], workers=1)
    recipe = RECIPE | {"configurations": {"3d_fullres": RECIPE["configuration"]}, "configuration": {}}
    (tmp_path / "two.json").write_text(json.dumps(recipe))
    return tmp_path


def test_an_ensemble_is_trained_chosen_and_predicted_with(workspace: Path) -> None:
    trained = steps.train("3d_fullres", 0, recipe=workspace / "two.json", workspace=workspace, **SHORT)
    assert trained.done == 2
    results = workspace / "results" / "Dataset007_Tiny"
    assert {path.name for path in results.glob("*__*")} == {"two.unpooling__3d_fullres", "two.deepseg__3d_fullres"}

    best = steps.choose(workspace=workspace).data["best"]
    candidates = [one for one in best["candidates"] if one["recipe"] == "two"]
    assert [one["combiner"] for one in candidates] == ["region_channels"]

    chosen = best | {
        "recipe": "two",
        "members": [
            {"recipe": f"two.{name}", "configuration": "3d_fullres", "folds": [0]} for name in RECIPE["members"]
        ],
        "combiner": RECIPE["combiner"],
        "weights": None,
        "postprocessing": RECIPE["postprocessing"],
    }
    (results / "best.json").write_text(json.dumps(chosen))
    images = workspace / "raw" / "Dataset007_Tiny" / "imagesTr"
    predicted = steps.predict(
        images, workspace / "out", workspace=workspace, device="cpu", engine="torch", save_probabilities=True
    )
    assert predicted.done == 2
    mask = read_mask(workspace / "out" / f"{predicted.data['cases'][0]}.nii.gz")[0]
    assert set(np.unique(mask)) <= {0, 1, 2, 3}
    names = {path.name for path in (workspace / "out" / "probabilities").rglob("*.nii.gz")}
    assert names == {"0_WT.nii.gz", "1_TC.nii.gz", "2_ET.nii.gz"}

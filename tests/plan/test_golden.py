"""Our plans against those of nnU-Net v2.8.1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bts_auto.cli.plan import main
from bts_auto.data.fingerprint import Fingerprint
from bts_auto.files import read_json
from bts_auto.plan.planner import make_plan
from bts_auto.plan.schema import Plan

CASES = sorted((Path(__file__).parents[1] / "golden" / "planner").glob("*.json"))


def differences(expected: Any, found: Any, at: str = "") -> list[str]:
    """Where `found` lacks or changes something of `expected`; floats compare to 1e-6."""
    if isinstance(expected, dict):
        return [line for key in expected for line in differences(expected[key], found.get(key), f"{at}.{key}")]
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        return [
            line
            for i, pair in enumerate(zip(expected, found, strict=True))
            for line in differences(*pair, f"{at}[{i}]")
        ]
    if isinstance(expected, float) and isinstance(found, int | float):
        return [] if found == pytest.approx(expected, abs=1e-6) else [f"{at}: {found} instead of {expected}"]
    return [] if expected == found else [f"{at}: {found} instead of {expected}"]


def test_there_are_golden_plans():
    assert len(CASES) == 28


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_plan_equals_nnunets(path: Path):
    case = json.loads(path.read_text())
    made = make_plan(
        Fingerprint.model_validate(case["fingerprint"]),
        case["dataset"],
        gpu_memory_gb=case["gpu_memory_gb"],
        preset=case.get("preset", "plain"),
        dataset_name="Dataset001_Golden",
    ).model_dump(mode="json")
    assert sorted(made["configurations"]) == sorted(case["plan"]["configurations"])
    assert differences(case["plan"], made) == []


def test_command_writes_the_same_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    case = json.loads(CASES[0].read_text())
    (tmp_path / "f.json").write_text(json.dumps(case["fingerprint"]))
    (tmp_path / "d.json").write_text(json.dumps(case["dataset"]))
    arguments = ["--fingerprint", str(tmp_path / "f.json"), "--dataset", str(tmp_path / "d.json")]
    memory = ["--gpu-memory", str(case["gpu_memory_gb"])]
    assert main([*arguments, *memory, "-o", str(tmp_path / "plan.json"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["plan"] == str(tmp_path / "plan.json")
    assert differences(case["plan"], read_json(tmp_path / "plan.json")) == []
    assert Plan.load(tmp_path / "plan.json").configuration("3d_cascade_fullres").previous_stage == "3d_lowres"


@pytest.mark.real_data
def test_sizes_of_a_trained_nnunet_model(real_data: Path):
    folder = next((real_data / "nnunet_model").iterdir())
    made = make_plan(
        Fingerprint.load(folder / "dataset_fingerprint.json"),
        read_json(folder / "dataset.json"),
        gpu_memory_gb=1,
        dataset_name="Dataset021_BraTS2013",
    ).model_dump(mode="json")
    theirs = read_json(folder / "plans.json")
    compared = (
        "patch_size", "batch_size", "spacing", "median_image_size_in_voxels", "batch_dice", "normalization_schemes",
        "use_mask_for_norm", "inherits_from", "previous_stage", "next_stage",
    )  # fmt: skip
    network = ("n_stages", "features_per_stage", "kernel_sizes", "strides")
    general = (
        "transpose_forward", "transpose_backward", "original_median_spacing_after_transp",
        "original_median_shape_after_transp", "foreground_intensity_properties_per_channel",
    )  # fmt: skip
    expected: dict[str, Any] = {key: theirs[key] for key in general} | {"configurations": {}}
    for name, entry in theirs["configurations"].items():
        fields = {key: entry[key] for key in compared if key in entry}
        fields |= {key: entry["architecture"]["arch_kwargs"][key] for key in network if "architecture" in entry}
        expected["configurations"][name] = fields
    assert sorted(made["configurations"]) == sorted(theirs["configurations"])
    assert differences(expected, made) == []

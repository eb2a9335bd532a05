"""The plan as a document."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from bts_auto.errors import PlanError
from bts_auto.files import read_json, write_json
from bts_auto.plan.json_schema import plan_schema
from bts_auto.plan.schema import Plan
from tests.plan.cases import plan


@pytest.fixture
def values() -> dict:
    return plan((500, 512, 512)).model_dump(mode="json")


def _load(values: dict, folder: Path) -> Plan:
    write_json(folder / "plan.json", values)
    return Plan.load(folder / "plan.json")


def test_a_saved_plan_comes_back_equal(tmp_path: Path):
    made = plan((500, 512, 512))
    made.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == made


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_other_versions_are_refused(values: dict, tmp_path: Path, version: object):
    with pytest.raises(PlanError, match="plan again with bts_plan"):
        _load(values | {"version": version}, tmp_path)


def test_an_unknown_key_is_named_with_the_nearest(values: dict, tmp_path: Path):
    with pytest.raises(PlanError, match=r"unknown key 'transpose_foward' \(did you mean 'transpose_forward'\?\)"):
        _load(values | {"transpose_foward": [0, 1, 2]}, tmp_path)


def test_an_unknown_key_of_a_configuration_is_named_with_the_nearest(values: dict, tmp_path: Path):
    values["configurations"]["2d"]["training"]["epoch"] = 3
    with pytest.raises(PlanError, match=r"'2d': unknown key 'training.epoch' \(did you mean 'epochs'\?\)"):
        _load(values, tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("patch_size", [100, 100], "not a multiple"),
        ("patch_size", [128], "1 axes"),
        ("spacing", [1.0, 1.0, 1.0], "spacing has 3 axes"),
        ("features_per_stage", [32], "features_per_stage has 1 entries"),
        ("use_mask_for_norm", [True], "one entry for each channel"),
        ("inference", {"mirror_axes": [0, 2]}, "mirror_axes"),
        ("network", {"name": "plain_unit"}, "plain_unet"),
        ("network", {"name": "plain_unet", "options": {"n_conv_per_stag": 2}}, "n_conv_per_stage"),
        ("previous_stage", "3d_nowhere", "3d_nowhere"),
        ("inherits_from", "nothing", "missing or in a circle"),
    ],
)
def test_contradictions_are_refused(values: dict, tmp_path: Path, field: str, value: object, words: str):
    values["configurations"]["2d"][field] = value
    with pytest.raises(PlanError, match=words):
        _load(values, tmp_path)


def test_wrong_transposes_are_refused(values: dict, tmp_path: Path):
    with pytest.raises(PlanError, match="inverse"):
        _load(values | {"transpose_forward": [1, 2, 0], "transpose_backward": [1, 2, 0]}, tmp_path)


def test_inherited_fields_are_merged_in_depth(values: dict, tmp_path: Path):
    values["configurations"]["3d_fullres"]["training"]["seed"] = 7
    values["configurations"]["3d_cascade_fullres"]["training"] = {"epochs": 50}
    training = _load(values, tmp_path).configuration("3d_cascade_fullres").training
    assert (training.epochs, training.seed) == (50, 7)


def test_unknown_configuration_names_the_known():
    with pytest.raises(PlanError, match="it has 2d, 3d_fullres"):
        plan().configuration("3d")


def test_schema_describes_a_plan(tmp_path: Path):
    plan((500, 512, 512)).save(tmp_path / "plan.json")
    document, schema = read_json(tmp_path / "plan.json"), plan_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(document)
    for wrong in ({"version": 2}, {"surprise": 1}, {"configurations": {"2d": {"patch_size": [64, 64]}}}):
        assert not jsonschema.Draft202012Validator(schema).is_valid(document | wrong)


def test_schema_names_the_configurations_fields():
    fields = plan_schema()["$defs"]["SegmentationConfiguration"]["properties"]
    assert {"patch_size", "batch_size", "strides", "training", "inference"} <= set(fields)

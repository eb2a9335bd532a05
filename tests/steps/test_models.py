"""Models that are brought into a workspace."""

from pathlib import Path

import pytest

from bts_auto import steps
from bts_auto.data.workspace import Workspace
from bts_auto.errors import DataError
from bts_auto.files import read_json, write_json
from bts_auto.model.fold import TrainedFold
from bts_auto.model.nnunet import export_nnunet
from bts_auto.steps.place import locate_for_model
from tests.model.test_package import package  # noqa: F401 - a fixture
from tests.model.tiny import tiny_fold
from tests.predict.test_folder import Listening, write_case


def named() -> str:
    return "Dataset021_BraTS"


def asked() -> str:
    raise AssertionError("the model was asked")


def test_a_model_takes_its_datasets_name_where_the_dataset_is_not_there(tmp_path: Path):
    assert locate_for_model(None, tmp_path, named).results == tmp_path / "results" / "Dataset021_BraTS"
    assert locate_for_model(7, tmp_path, named).name == "Dataset007_BraTS"


def test_a_model_goes_to_the_dataset_that_is_there(tmp_path: Path):
    (tmp_path / "raw" / "Dataset007_Mine").mkdir(parents=True)
    assert locate_for_model("7", tmp_path, asked).name == "Dataset007_Mine"


@pytest.mark.parametrize("dataset", ["Mine", None])
def test_which_dataset_must_be_clear(tmp_path: Path, dataset):
    for name in ("Dataset001_One", "Dataset002_Two"):
        (tmp_path / "raw" / name).mkdir(parents=True)
    with pytest.raises(DataError):
        locate_for_model(dataset, tmp_path, asked)


def test_a_package_is_installed_into_an_empty_workspace(package: Path, tmp_path: Path):  # noqa: F811
    workspace = tmp_path / "workspace"
    steps.install_model(package, dataset=5, workspace=workspace)
    (name,) = Workspace.locate(workspace).datasets()
    assert name.startswith("Dataset005_")
    assert list((workspace / "results" / name).glob("*/fold_*/checkpoint.safetensors"))


def test_the_choice_in_a_package_is_installed_with_it_unless_there_is_one(package: Path, tmp_path: Path):  # noqa: F811
    workspace = tmp_path / "workspace"
    steps.install_model(package, dataset=5, workspace=workspace)
    (best,) = (workspace / "results").glob("*/best.json")
    assert read_json(best) == {"members": 2}
    write_json(best, {"members": 1})
    listening = Listening()
    steps.install_model(package, dataset=5, workspace=workspace, observer=listening)
    assert read_json(best) == {"members": 1}
    assert any("best.json stays" in one for one in listening.warnings)


def test_scans_that_are_not_there_are_refused_before_anything_is_imported(tmp_path: Path):
    source = export_nnunet([tiny_fold(tmp_path / "ours")], tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres")
    with pytest.raises(DataError, match="--images"):
        steps.import_nnunet_model(source, dataset=5, workspace=tmp_path / "workspace", images=tmp_path / "none")
    assert not (tmp_path / "workspace").exists()


@pytest.mark.parametrize("images", ["imagesTr", None])
def test_an_imported_model_learns_its_ranges_from_scans(images, tmp_path: Path):
    """From those that are named, else from the dataset's own."""
    source = export_nnunet([tiny_fold(tmp_path / "ours")], tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres")
    raw = tmp_path / "workspace" / "raw" / "Dataset005_Tiny"
    write_case(raw / "imagesTr", "anna")
    given = None if images is None else raw / images
    steps.import_nnunet_model(source, dataset=5, workspace=tmp_path / "workspace", images=given)
    (folder,) = (tmp_path / "workspace" / "results").glob("*/*/fold_0")
    assert TrainedFold(folder).configuration.inference.ranges

"""Where things lie, and which dataset is meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from bts_auto.data.workspace import Workspace
from bts_auto.errors import DataError


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    for name in ("Dataset003_Mets", "Dataset021_BraTS"):
        (tmp_path / "raw" / name).mkdir(parents=True)
    return Workspace.locate(tmp_path)


def test_default_is_below_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Workspace.locate().results == tmp_path / "bts_workspace" / "results"


def test_environment_names_the_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BTS_WORKSPACE", str(tmp_path))
    assert Workspace.locate().raw == tmp_path / "raw"
    assert Workspace.locate(tmp_path / "other").raw == tmp_path / "other" / "raw"


def test_environment_moves_single_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BTS_RESULTS", str(tmp_path / "fast"))
    found = Workspace.locate(tmp_path / "w")
    assert found.results == tmp_path / "fast"
    assert found.preprocessed == tmp_path / "w" / "preprocessed"


def test_nnunets_raw_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    monkeypatch.setenv("nnUNet_raw", str(theirs))
    assert Workspace.locate(tmp_path / "w").raw == theirs
    monkeypatch.setenv("BTS_RAW", str(ours))
    assert Workspace.locate(tmp_path / "w").raw == ours


def test_own_raw_folder_comes_before_nnunets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "w" / "raw").mkdir(parents=True)
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "theirs"))
    assert Workspace.locate(tmp_path / "w").raw == tmp_path / "w" / "raw"


@pytest.mark.parametrize("wanted", [21, "21", "021", "BraTS", "brats", "Dataset021_BraTS"])
def test_dataset_by_id_or_name(workspace: Workspace, wanted: int | str) -> None:
    assert workspace.dataset(wanted) == "Dataset021_BraTS"


@pytest.mark.parametrize("wanted", [4, "Liver"])
def test_unknown_dataset_says_which_exist(workspace: Workspace, wanted: int | str) -> None:
    with pytest.raises(DataError, match=f"no dataset '{wanted}' - there are Dataset003_Mets, Dataset021_BraTS"):
        workspace.dataset(wanted)


def test_no_dataset_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="put one there as DatasetXXX_Name"):
        Workspace.locate(tmp_path).dataset()


def test_one_id_for_two_datasets(workspace: Workspace) -> None:
    (workspace.raw / "Dataset021_Other").mkdir()
    with pytest.raises(DataError, match="several datasets are '21'"):
        workspace.dataset(21)


def test_default_dataset_is_the_environments(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BTS_DATASET", "3")
    assert workspace.dataset() == "Dataset003_Mets"
    assert workspace.dataset(21) == "Dataset021_BraTS"


def test_default_dataset_is_the_only_one(workspace: Workspace) -> None:
    (workspace.raw / "Dataset003_Mets").rmdir()
    assert workspace.dataset() == "Dataset021_BraTS"


def test_default_dataset_is_the_last_planned(workspace: Workspace) -> None:
    with pytest.raises(DataError, match="give -d: Dataset003_Mets, Dataset021_BraTS"):
        workspace.dataset()
    workspace.remember("Dataset003_Mets")
    assert workspace.dataset() == "Dataset003_Mets"


def test_preprocessed_datasets_are_known(workspace: Workspace) -> None:
    (workspace.preprocessed / "Dataset007_Gone").mkdir(parents=True)
    assert workspace.dataset(7) == "Dataset007_Gone"

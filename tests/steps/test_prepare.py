"""Which cases are measured, stored and put into folds when some of them are unfit, new or gone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bts_auto import steps
from bts_auto.events import SILENT
from bts_auto.preprocess.dataset import store_folder
from bts_auto.preprocess.store import CaseStore
from bts_auto.steps.place import Place, locate
from bts_auto.steps.stage import Stage
from tests.make_data import make_case, make_raw_dataset, write_image

CASES = ["case_000", "case_001", "case_002", "case_003"]


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planned")
    shutil.move(make_raw_dataset(folder / "made", n_cases=4), folder / "raw" / "Dataset001_Tiny")
    done = steps.plan_and_preprocess(workspace=folder, gpu_memory=1, configurations=["3d_fullres"], workers=1)
    assert not done.failures
    return folder


@pytest.fixture
def workspace(planned: Path, tmp_path: Path) -> Path:
    """Four preprocessed cases of 3d_fullres, to change at will."""
    return Path(shutil.copytree(planned, tmp_path / "workspace"))


def place(workspace: Path) -> Place:
    return locate(None, workspace)


def add_flat_case(raw: Path) -> None:
    image, mask = make_case((1, 24, 22), seed=9)
    for number, channel in enumerate(image):
        write_image(raw / "imagesTr" / f"flat_{number:04d}.nii.gz", channel)
    write_image(raw / "labelsTr" / "flat.nii.gz", mask)


def stage(workspace: Path) -> Stage:
    here = place(workspace)
    return Stage.open(here, here.plan(), "3d_fullres", SILENT)


def test_training_only_reads_the_folds(workspace: Path) -> None:
    path = place(workspace).preprocessed / "splits.json"
    content = path.read_bytes()
    opened = stage(workspace)
    opened.store.remove("case_001")
    splits = opened.splits()
    assert len(splits) == 4
    assert sorted(case for split in splits for case in split.validation) == ["case_000", "case_002", "case_003"]
    assert path.read_bytes() == content


def test_deleted_folds_are_made_again(workspace: Path) -> None:
    path = place(workspace).preprocessed / "splits.json"
    content = path.read_bytes()
    path.unlink()
    stage(workspace).splits()
    assert path.read_bytes() == content


def test_a_failed_case_does_not_stop_given_folds(workspace: Path) -> None:
    here = place(workspace)
    given = [{"train": CASES[:2], "val": CASES[2:]}]
    (here.raw / "splits_final.json").write_text(json.dumps(given))
    (here.raw / "imagesTr" / "case_003_0001.nii.gz").unlink()
    done = steps.preprocess(workspace=workspace, configurations=["3d_fullres"], workers=1)
    assert [failure.case for failure in done.failures] == ["case_003"]
    assert "missing channel file case_003_0001.nii.gz" in done.failures[0].reason
    (split,) = stage(workspace).splits()
    assert (split.train, split.validation) == (("case_000", "case_001"), ("case_002",))


def test_a_case_of_another_dimension_is_not_stored(workspace: Path) -> None:
    here = place(workspace)
    add_flat_case(here.raw)
    store = CaseStore(store_folder(here.preprocessed, here.plan(), "3d_fullres"))
    shutil.copytree(store.folder / "case_000", store.folder / "flat")
    done = steps.preprocess(workspace=workspace, configurations=["3d_fullres"], workers=1)
    assert [failure.case for failure in done.failures] == ["flat"]
    assert "2D" in done.failures[0].reason
    assert store.cases() == CASES
    assert done.data["cases"] == CASES


def test_planning_sees_a_new_case(workspace: Path) -> None:
    here = place(workspace)
    for path in [*here.raw.glob("imagesTr/case_000*"), *here.raw.glob("labelsTr/case_000*")]:
        shutil.copy(path, path.with_name(path.name.replace("case_000", "case_009")))
    steps.plan(workspace=workspace, gpu_memory=1)
    measured = json.loads((here.preprocessed / "dataset_fingerprint.json").read_text())
    assert sorted(measured["cases"]) == [*CASES, "case_009"]

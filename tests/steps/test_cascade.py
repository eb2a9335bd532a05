"""Training a cascade: what its second stage needs is trained first, and no mask has seen its case's annotation."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from bts_auto import steps
from bts_auto.errors import DataError, PlanError
from bts_auto.events import SILENT, Observer
from bts_auto.model.fold import TrainedFold
from bts_auto.preprocess.masks import MaskStore
from bts_auto.preprocess.store import StoredCase
from bts_auto.steps.place import locate
from bts_auto.steps.stage import Stage
from tests.steps.cascade_data import FIRST, NAME, SECOND, SPLITS, make_workspace

CPU = {"device": "cpu", "workers": 0}
HOW = {"device": "cpu", "engine": "torch"}


class Heard(Observer):
    """Keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


@pytest.fixture(autouse=True, scope="module")
def one_compute_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def planned(tmp_path_factory) -> Path:
    """A workspace in which nothing is trained; read only."""
    return make_workspace(tmp_path_factory.mktemp("planned"))


@pytest.fixture(scope="module")
def trained(planned, tmp_path_factory):
    """A workspace in which the second stage's fold 0 was asked for, and what was heard."""
    workspace = tmp_path_factory.mktemp("trained") / "workspace"
    shutil.copytree(planned, workspace)
    observer = Heard()
    outcome = steps.train(SECOND, 0, workspace=workspace, observer=observer, **CPU)
    assert not outcome.failures
    return workspace, observer


@pytest.fixture
def unfinished(planned, tmp_path) -> Path:
    """A copy of the workspace in which nothing is trained."""
    return Path(shutil.copytree(planned, tmp_path / "workspace"))


def folder(workspace: Path, configuration: str, fold: int) -> Path:
    return workspace / "results" / NAME / f"default__{configuration}" / f"fold_{fold}"


def test_preparing_the_second_stage_prepares_the_first_too(planned):
    place = locate(None, planned)
    assert len(Stage.open(place, place.plan(), FIRST, SILENT).store.cases()) == 4


def test_every_fold_of_the_first_stage_is_trained_and_announced(trained):
    workspace, observer = trained
    announced = [line for line in observer.notes if "needs the masks" in line]
    assert [line.rpartition(": ")[2] for line in announced] == ["fold 0 (1 of 2)", "fold 1 (2 of 2)"]
    assert all((folder(workspace, FIRST, fold) / "checkpoint.safetensors").exists() for fold in (0, 1))
    assert not folder(workspace, SECOND, 1).exists()


def test_where_the_folds_come_from_is_said_once(trained):
    _, observer = trained
    assert sum("folds from" in line for line in observer.notes) == 1


def test_each_case_has_the_mask_of_the_fold_that_held_it_out(trained):
    workspace, _ = trained
    masks = MaskStore(folder(workspace, SECOND, 0).parent / "previous_masks")
    for fold, cases in enumerate(SPLITS):
        assert [masks.record(case)["fold"] for case in cases] == [fold, fold]


def test_the_second_stage_reads_the_images_and_three_labels(trained):
    workspace, _ = trained
    kernels = [tensor for tensor in TrainedFold(folder(workspace, SECOND, 0)).state().values() if tensor.ndim == 5]
    assert 2 + 3 in {kernel.shape[1] for kernel in kernels}


def test_held_out_cases_are_validated(trained):
    workspace, _ = trained
    written = {path.name for path in (folder(workspace, SECOND, 0) / "validation").glob("*.nii.gz")}
    assert written == {f"{case}.nii.gz" for case in SPLITS[0]}


def test_asked_again_nothing_is_done(trained):
    workspace, _ = trained
    before = {path: path.stat().st_mtime_ns for path in (workspace / "results").rglob("*")}
    outcome = steps.train(SECOND, 0, workspace=workspace, **CPU)
    assert outcome.data["folds"]["0"]["was_finished"]
    assert before == {path: path.stat().st_mtime_ns for path in (workspace / "results").rglob("*")}


def test_prediction_runs_both_stages(trained, tmp_path):
    workspace, _ = trained
    images = tmp_path / "in"
    images.mkdir()
    for channel in (0, 1):
        shutil.copy(workspace / "raw" / NAME / "imagesTr" / f"case_000_{channel:04d}.nii.gz", images)
    outcome = steps.predict(images, tmp_path / "out", workspace=workspace, configuration=SECOND, **HOW)
    alone = steps.predict(images, tmp_path / "alone", model=folder(workspace, SECOND, 0), **HOW)
    assert (outcome.done, alone.done) == (1, 1)
    assert (tmp_path / "out" / "case_000.nii.gz").exists()


def test_masks_of_another_first_stage_are_another_training(trained, tmp_path):
    workspace = Path(shutil.copytree(trained[0], tmp_path / "workspace"))
    steps.train(FIRST, 1, workspace=workspace, restart=True, seed=5, **CPU)
    with pytest.raises(PlanError, match="previous_masks"):
        steps.train(SECOND, 0, workspace=workspace, **CPU)


def test_a_first_stage_that_was_not_validated_is_validated_only(trained, tmp_path):
    workspace = Path(shutil.copytree(trained[0], tmp_path / "workspace"))
    weights = folder(workspace, FIRST, 1) / "checkpoint.safetensors"
    before = weights.stat().st_mtime_ns
    shutil.rmtree(folder(workspace, FIRST, 1) / "validation")
    assert steps.train(SECOND, 0, workspace=workspace, **CPU).data["folds"]["0"]["was_finished"]
    assert weights.stat().st_mtime_ns == before


def test_validation_alone_names_the_missing_fold(unfinished):
    with pytest.raises(DataError, match=r"fold 0 .*run bts_train 3d_lowres 0"):
        steps.train(SECOND, 0, workspace=unfinished, validate_only=True, **CPU)


def test_a_case_that_no_fold_held_out_is_named(unfinished):
    path = unfinished / "preprocessed" / NAME / "splits_final.json"
    path.write_text('[{"train": ["case_000", "case_001", "case_002"], "val": ["case_003"]}]')
    with pytest.raises(DataError, match="no fold of 3d_lowres holds case_000 out"):
        steps.train(SECOND, 0, workspace=unfinished, **CPU)


def test_a_budget_is_shared_by_what_has_to_be_trained(unfinished, monkeypatch):
    given = {}

    def note(stage, fold, split, previous, *, budget, **options):
        given[stage.configuration, fold] = budget
        raise DataError("stop here")

    monkeypatch.setattr("bts_auto.steps.stage.Stage.train", note)
    with pytest.raises(DataError, match="needs every fold of 3d_lowres"):
        steps.train(SECOND, 0, workspace=unfinished, budget=90.0, **CPU)
    assert given == {(FIRST, 0): 30.0, (FIRST, 1): 30.0}


def test_the_previous_masks_are_on_the_grid_of_the_images(trained):
    workspace, _ = trained
    masks = MaskStore(folder(workspace, SECOND, 0).parent / "previous_masks")
    stored = next((workspace / "preprocessed" / NAME).glob("3d_fullres-*")) / "case_000"
    assert masks.whole("case_000").shape == StoredCase(stored).shape[1:]
    assert np.unique(masks.whole("case_000")).min() >= 0


def test_an_interrupted_first_stage_goes_on(unfinished, monkeypatch):
    """The second fold is interrupted; asked again, the first one is not trained anew."""
    train = Stage.train

    def interrupt(stage, fold, *arguments, **options):
        if fold == 1:
            raise KeyboardInterrupt
        return train(stage, fold, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Stage, "train", interrupt)
        with pytest.raises(KeyboardInterrupt):
            steps.train(SECOND, 0, workspace=unfinished, **CPU)
    weights = folder(unfinished, FIRST, 0) / "checkpoint.safetensors"
    before = weights.stat().st_mtime_ns
    observer = Heard()
    steps.train(SECOND, 0, workspace=unfinished, observer=observer, **CPU)
    assert weights.stat().st_mtime_ns == before
    assert [line.rpartition(": ")[2] for line in observer.notes if "needs the masks" in line] == ["fold 1 (1 of 1)"]

"""Scans without annotation on their way from imagesUn to an objective that learns from them."""

from __future__ import annotations

import json

import pytest

from bts_auto import steps
from bts_auto.preprocess.store import CaseStore
from bts_auto.train.journal import JOURNAL, read_journal
from tests.make_data import make_case, write_image
from tests.steps.cascade_data import NAME, make_workspace

CPU = {"device": "cpu", "workers": 0}
CONFIGURATION = "3d_fullres"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workspace with two scans in imagesUn, the recipe's file, and what came of a training with it."""
    workspace = make_workspace(tmp_path_factory.mktemp("unlabelled"))
    for number in range(2):
        image, _ = make_case(seed=50 + number)
        for channel, array in enumerate(image):
            write_image(workspace / "raw" / NAME / "imagesUn" / f"more_{number}_{channel:04d}.nii.gz", array)
    recipe = workspace / "several_tasks.json"
    small = {"name": "multitask", "options": {"hidden": 6, "latent": 3, "presence": "enhancing"}}
    training = {"objective": small, "deep_supervision": False}
    recipe.write_text(json.dumps({"about": "A test.", "configuration": {"training": training}}))
    made = steps.preprocess(workspace=workspace, recipe=recipe, configurations=[CONFIGURATION], workers=1)
    assert not made.failures
    assert made.done == 4
    return workspace, recipe, steps.train(CONFIGURATION, 0, workspace=workspace, recipe=recipe, **CPU)


def test_scans_without_annotation_have_a_store_of_their_own(trained):
    workspace, _, _ = trained
    stores = {path.name.count("-unlabelled"): CaseStore(path) for path in _stores(workspace)}
    assert stores[1].cases() == ["more_0", "more_1"]
    assert stores[0].cases() == [f"case_{number:03d}" for number in range(4)]


def _stores(workspace):
    return (workspace / "preprocessed" / NAME).glob(f"{CONFIGURATION}-*")


def test_all_tasks_are_in_the_journal(trained):
    _, _, outcome = trained
    (epoch,) = read_journal(_folder(outcome) / JOURNAL, "epoch")
    assert {"reconstruction", "divergence", "presence", "dice"} <= set(epoch["terms"])


def _folder(outcome):
    from pathlib import Path

    return Path(outcome.data["folds"]["0"]["folder"])


def test_which_scans_they_were_is_part_of_the_run(trained):
    _, _, outcome = trained
    run = json.loads((_folder(outcome) / "run.json").read_text())
    assert run["settings"]["unlabelled_cases"] == ["more_0", "more_1"]


def test_the_trained_fold_predicts_like_any_other(trained):
    _, _, outcome = trained
    assert set(outcome.data["folds"]["0"]["dice"]) >= {"WT", "TC", "ET"}

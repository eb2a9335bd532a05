"""The main job on a tiny dataset, command by command, as subprocesses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from tests.make_data import make_raw_dataset

LENGTH = ("--epochs", "1", "--iterations", "2", "--device", "cpu")


def run(where: Path, command: str, *arguments: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command in `where`; its exit status must be `status`."""
    code = f"import sys; from bts_auto.cli.{command} import main; sys.exit(main())"
    called = [sys.executable, "-c", code, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(called, capture_output=True, text=True, cwd=where, check=False, env=environment)
    assert done.returncode == status, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a workspace in which fold 0 of two configurations is trained and one case is predicted."""
    where = tmp_path_factory.mktemp("pipeline")
    made = make_raw_dataset(where / "made", n_cases=4)
    raw = where / "bts_workspace" / "raw" / "Dataset007_Tiny"
    shutil.move(made, raw)
    (where / "in").mkdir()
    run(where, "plan_and_preprocess", "-d", 7, "--gpu-memory", 1)
    for configuration in ("3d_fullres", "2d"):
        run(where, "train", configuration, 0, *LENGTH)
    held_out = json.loads((where / "bts_workspace/preprocessed/Dataset007_Tiny/splits.json").read_text())
    case = (held_out["folds"] if isinstance(held_out, dict) else held_out)[0]["val"][0]
    for image in (raw / "imagesTr").glob(f"{case}_*"):
        shutil.copy(image, where / "in")
    run(where, "predict", "-i", "in", "-o", "out", "--preview")
    run(where, "ensemble")
    return where, case


def test_fewer_cases_than_folds_is_said_in_one_line(tmp_path):
    made = make_raw_dataset(tmp_path / "made", n_cases=3)
    shutil.move(made, tmp_path / "bts_workspace" / "raw" / "Dataset007_Tiny")
    done = run(tmp_path, "plan_and_preprocess", "--gpu-memory", 1)
    assert [line for line in done.stderr.splitlines() if "fold" in line] == [
        "3 cases, 3 folds instead of 5 (a fold needs a patient to hold out)"
    ]


def test_the_mask_lies_on_the_grid_of_the_scan(place):
    where, case = place
    mask, image = (
        sitk.ReadImage(str(path)) for path in (where / f"out/{case}.nii.gz", where / f"in/{case}_0000.nii.gz")
    )
    for what in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(mask, what)() == getattr(image, what)()
    assert set(np.unique(sitk.GetArrayFromImage(mask))) <= {0, 1, 2, 3}


def test_a_picture_is_drawn_on_request(place):
    where, case = place
    assert (where / f"out/previews/{case}.png").stat().st_size > 1000


def test_the_choice_names_what_was_trained(place):
    where, _ = place
    best = json.loads((where / "bts_workspace/results/Dataset007_Tiny/best.json").read_text())
    assert {member["configuration"] for member in best["members"]} <= {"3d_fullres", "2d"}


def test_predictions_are_scored_without_naming_folders(place):
    where, case = place
    answer = json.loads(run(where, "evaluate", "--json").stdout)
    assert answer["status"] == "done"
    assert set(answer["mean"]) == {"necrosis", "edema", "enhancing", "WT", "TC", "ET"}
    assert case in json.loads(Path(answer["scores"]).read_text())["cases"]


def test_a_finished_fold_is_not_trained_again(place):
    where, _ = place
    checkpoint = where / "bts_workspace/results/Dataset007_Tiny/default__2d/fold_0/checkpoint.safetensors"
    before = checkpoint.stat().st_mtime_ns
    assert "trained already" in run(where, "train", "2d", 0, *LENGTH).stderr
    assert checkpoint.stat().st_mtime_ns == before


def test_other_settings_than_the_trained_ones_are_named(place):
    where, _ = place
    done = run(where, "train", "2d", 0, "--epochs", 3, "--iterations", 2, "--device", "cpu", status=2)
    assert "epochs" in done.stderr


def test_validation_can_be_done_alone(place):
    where, _case = place
    answer = json.loads(run(where, "train", "2d", 0, "--val", "--json").stdout)
    assert set(answer["folds"]["0"]["dice"]) >= {"WT", "TC", "ET"}


def test_two_folders_are_combined_by_vote(place):
    where, case = place
    run(where, "predict", "-i", "in", "-o", "flat", "-c", "2d", "--no-tta")
    answer = json.loads(run(where, "ensemble", "-i", "out", "flat", "-o", "both", "--json").stdout)
    assert answer["combiner"] == "vote"
    assert (where / f"both/{case}.nii.gz").exists()


def test_two_folders_are_combined_by_probabilities_where_all_have_them(place):
    where, _ = place
    for name, configuration in (("p3", "3d_fullres"), ("p2", "2d")):
        run(where, "predict", "-i", "in", "-o", name, "-c", configuration, "--no-tta", "--save-probabilities")
    answer = json.loads(run(where, "ensemble", "-i", "p3", "p2", "-o", "mean", "--json").stdout)
    assert answer["combiner"] == "mean"


def test_one_bad_case_does_not_stop_the_others(place):
    where, case = place
    bad = where / "bad"
    shutil.copytree(where / "in", bad)
    for channel in (0, 1):
        (bad / f"broken_{channel:04d}.nii.gz").write_bytes(b"no image")
    done = run(where, "predict", "-i", "bad", "-o", "bad_out", "-c", "2d", "--no-tta", status=1)
    assert "failed: broken: " in done.stderr
    assert (where / f"bad_out/{case}.nii.gz").exists()
    assert not list((where / "bad_out").glob("broken*"))


def test_training_before_planning_says_which_command_to_run(tmp_path):
    made = make_raw_dataset(tmp_path / "made")
    shutil.move(made, tmp_path / "bts_workspace" / "raw" / "Dataset007_Tiny")
    done = run(tmp_path, "train", "2d", 0, status=2)
    assert "run bts_plan_and_preprocess" in done.stderr


def test_a_plan_of_another_version_is_refused(place, tmp_path):
    where, _ = place
    copy = tmp_path / "bts_workspace"
    shutil.copytree(where / "bts_workspace", copy, ignore=shutil.ignore_patterns("results"))
    path = copy / "preprocessed/Dataset007_Tiny/plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 99}))
    done = run(tmp_path, "train", "2d", 0, status=2)
    assert "version 99" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 2  # which dataset, and the error


def test_a_chosen_ensemble_is_obeyed(place):
    where, case = place
    path = where / "bts_workspace/results/Dataset007_Tiny/best.json"
    best = json.loads(path.read_text())
    members = [{"recipe": "default", "configuration": name, "folds": [0]} for name in ("2d", "3d_fullres")]
    rules = [{"name": "keep_largest", "options": {}}]
    path.write_text(json.dumps(best | {"members": members, "weights": None, "postprocessing": rules}))
    try:
        done = run(where, "predict", "-i", "in", "-o", "joint", "--save-uncertainty")
    finally:
        path.write_text(json.dumps(best))
    assert "default 2d (1 fold) + default 3d_fullres (1 fold)" in done.stderr
    assert (where / f"joint/{case}.nii.gz").exists()
    entropy = sitk.GetArrayFromImage(sitk.ReadImage(str(where / f"joint/uncertainty/{case}_entropy.nii.gz")))
    assert 0 <= entropy.min() <= entropy.max() <= 1
    assert (where / f"joint/uncertainty/{case}_mutual_information.nii.gz").exists()


def test_a_package_predicts_what_its_folds_predict(place):
    where, case = place
    run(where, "export", "-c", "2d", "-o", "model.zip")
    run(where, "predict", "-i", "in", "-o", "by_fold", "-c", "2d", "--no-tta")
    run(where, "predict", "-i", "in", "-o", "by_package", "-m", "model.zip", "--no-tta")
    one, other = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(where / f"{n}/{case}.nii.gz"))) for n in ("by_fold", "by_package")
    )
    assert np.array_equal(one, other)


def test_a_damaged_package_is_refused_in_one_line(place):
    where, _ = place
    (where / "damaged.zip").write_bytes(b"PK not really")
    done = run(where, "predict", "-i", "in", "-o", "nothing", "-m", "damaged.zip", status=2)
    assert done.stderr.count("\n") == 1
    assert "damaged.zip" in done.stderr
    assert not (where / "nothing").exists()


@pytest.mark.real_data
def test_an_nnunet_model_becomes_a_package(real_data, tmp_path):
    model = real_data / "nnunet_model" / "nnUNetTrainer__nnUNetPlans_1__3d_fullres"
    answer = json.loads(run(tmp_path, "import_nnunet", model, "-o", "model.zip", "--json").stdout)
    assert answer["status"] == "done"
    assert (tmp_path / answer["model"]).stat().st_size > 1e6

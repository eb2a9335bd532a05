"""A folder of cases by a model package: what is refused before the first case is read, and what is only warned of."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bts_auto import steps
from bts_auto.cli import predict as command
from bts_auto.data.readers import read_mask
from bts_auto.errors import BtsError, ModelError, PlanError
from bts_auto.evaluate.scores import Scores
from bts_auto.files import write_json
from bts_auto.model.layout import WEIGHTS_FILE
from bts_auto.model.package import export_package
from bts_auto.steps.prediction import trained
from tests.model.tiny import tiny_fold
from tests.predict.test_folder import Listening, write_case

HOW = {"engine": "torch", "precision": "fp32", "device": "cpu"}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    where = tmp_path_factory.mktemp("package")
    folds = [tiny_fold(where / "results"), tiny_fold(where / "results", fold=1, seed=5)]
    return export_package(folds, where / "model.zip")


@pytest.fixture
def images(tmp_path):
    write_case(tmp_path / "in", "anna")
    return tmp_path / "in"


def test_a_picture_that_cannot_be_drawn_is_a_warning(package, images, tmp_path, monkeypatch):
    def fail(*_):
        raise TypeError("no shape")

    monkeypatch.setattr("bts_auto.report.overlay.write_overlay", fail)
    listening = Listening()
    outcome = steps.predict(images, tmp_path / "out", model=package, preview=True, observer=listening, **HOW)
    assert (outcome.done, outcome.failures, outcome.data["cases"]) == (1, (), ["anna"])
    assert outcome.lines == (f"1 mask: {tmp_path / 'out'}",)
    assert listening.warnings == ["anna: no picture (TypeError: no shape)"]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"tta": (0, 3)}, "--tta-axes: the network has no axis 3"),
        ({"tta": (-1,)}, "--tta-axes: the network has no axis -1"),
        ({"tta": (0,), "fast": True}, "--fast mirrors nothing"),
        ({"tile": (64, 64)}, "--tile: cannot use"),
        ({"tile": "hole"}, "--tile: cannot use"),
        ({"step_size": 2.0}, "--step-size: 2.0"),
        ({"step_size": float("nan")}, "--step-size: nan"),
        ({"workspace": "elsewhere"}, r"a workspace \(--workspace\) were named"),
        ({"dataset": 21}, r"a dataset \(-d\) were named"),
        ({"folds": [3]}, "model.zip: fold 3 is not trained - it holds default 3d_fullres fold 0"),
        ({"configuration": "2d"}, "model.zip: no 2d is trained - it holds"),
    ],
)
@pytest.mark.parametrize("watch", [False, True])
def test_what_cannot_be_is_refused_before_a_case_is_read(package, images, tmp_path, monkeypatch, how, words, watch):
    monkeypatch.setattr("bts_auto.predict.cases.read_volume", lambda *_, **__: pytest.fail("a case was read"))
    with pytest.raises(BtsError, match=words):
        steps.predict(images, tmp_path / "out", model=package, watch=watch, **(HOW | how))
    assert not (tmp_path / "out").exists()


def test_the_folder_of_a_fold_leaves_no_choice(package, images, tmp_path):
    fold = package.parent / "results" / "default__3d_fullres" / "fold_0"
    with pytest.raises(PlanError, match="one fold"):
        steps.predict(images, tmp_path / "out", model=fold, folds=[0], **HOW)


def test_folds_of_a_package_can_be_chosen(package, images, tmp_path):
    steps.predict(images, tmp_path / "one", model=package, folds=["1"], **HOW)
    fold = package.parent / "results" / "default__3d_fullres" / "fold_1"
    steps.predict(images, tmp_path / "same", model=fold, **HOW)
    made = [json.loads((tmp_path / name / "anna.prediction.json").read_text())["made_by"] for name in ("one", "same")]
    assert made[0] == made[1]
    masks = [read_mask(tmp_path / name / "anna.nii.gz")[0] for name in ("one", "same")]
    np.testing.assert_array_equal(*masks)


def scored(results, recipe, **dice):
    """A trained fold with validation scores."""
    folder = results / f"{recipe}__3d_fullres/fold_0"
    write_json(folder / WEIGHTS_FILE, {})
    one = {region: {"dice": value} for region, value in dice.items()}
    Scores.of({"anna": one}).save(folder / "validation/scores.json")


def test_of_what_is_trained_the_best_is_taken_by_what_all_were_scored_for(tmp_path):
    scored(tmp_path, "default", necrosis=0.1, edema=0.2, WT=0.85, ET=0.7)
    scored(tmp_path, "of_regions", WT=0.82, ET=0.66)
    assert trained(tmp_path, None, None) == ("default", "3d_fullres")
    assert trained(tmp_path, "of_regions", None) == ("of_regions", "3d_fullres")


def test_a_member_of_an_ensemble_is_asked_for_as_it_is_trained(tmp_path):
    scored(tmp_path, "both.one", WT=0.1)
    scored(tmp_path, "both.two", WT=0.2)
    assert trained(tmp_path, "both:one", None) == ("both.one", "3d_fullres")
    with pytest.raises(ModelError, match="bts_ensemble --recipe both"):
        trained(tmp_path, "both", None)


def test_axes_are_sorted_and_each_counts_once(package, images, tmp_path):
    for axes in ((1, 0, 1), (0, 1)):
        steps.predict(images, tmp_path / "out", model=package, tta=axes, **HOW)
    record = json.loads((tmp_path / "out" / "anna.prediction.json").read_text())
    assert record["made_by"]["mirror_axes"] == [0, 1]


def test_a_precision_that_is_asked_for_is_not_taken_for_another(package, images, tmp_path):
    plain = HOW | {"precision": "auto"}
    steps.predict(images, tmp_path / "out", model=package, **(HOW | {"precision": "bf16"}))
    record = json.loads((tmp_path / "out" / "anna.prediction.json").read_text())
    assert record["computed_with"] == {"engine": "torch", "precision": "bf16"}
    steps.predict(images, tmp_path / "out", model=package, **plain)
    with pytest.raises(PlanError, match="another precision"):
        steps.predict(images, tmp_path / "out", model=package, **HOW)


def test_an_output_that_is_a_file_is_refused_before_the_model_is_loaded(images, tmp_path):
    (tmp_path / "out").write_text("no folder")
    with pytest.raises(BtsError, match="out: is a file, not a folder"):
        steps.predict(images, tmp_path / "out", model=tmp_path / "missing.zip", **HOW)


def test_an_output_that_cannot_be_written_is_refused_before_the_model_is_loaded(images, tmp_path, monkeypatch):
    def forbid(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("bts_auto.files.tempfile.TemporaryFile", forbid)
    with pytest.raises(BtsError, match="nothing can be written there"):
        steps.predict(images, tmp_path / "out" / "deep", model=tmp_path / "missing.zip", **HOW)


@pytest.mark.parametrize(
    "options",
    [
        ["--step-size", "0"], ["--step-size", "nan"], ["--step-size", "half"], ["--tta-axes", "-1"],
        ["--tta-axes", "x"], ["--tile", "64,x"], ["--tile", "0"], ["--part", "3/2"], ["--mc-dropout", "-1"],
        ["--no-tta", "--tta-axes", "0"],
    ],
)  # fmt: skip
def test_bad_options_are_one_line_of_usage(capsys, options):
    with pytest.raises(SystemExit) as stop:
        command.main(["-i", "in", "-o", "out", *options])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"argument {options[-2]}" in line

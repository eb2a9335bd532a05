"""Combining folders of masks with and without a workspace."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bts_auto import steps
from bts_auto.cli.ensemble import main
from bts_auto.data.readers import read_mask, write_mask
from bts_auto.errors import DataError
from tests.ensemble.make_results import DATASET, GEOMETRY, Results, truth


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders ``a`` and ``b`` with the true mask of a case, ``empty`` with none; no workspace, no dataset.json."""
    monkeypatch.chdir(tmp_path)
    for name in ("BTS_WORKSPACE", "BTS_RAW", "BTS_DATASET", "nnUNet_raw"):
        monkeypatch.delenv(name, raising=False)
    for name, filled in (("a", 1), ("b", 1), ("empty", 0)):
        write_mask(tmp_path / name / "case_0.nii.gz", truth(0) * np.uint8(filled), GEOMETRY)
    return tmp_path


def _declare(path: Path) -> Path:
    path.write_text(json.dumps(DATASET))
    return path


@pytest.mark.parametrize("named", [True, False], ids=["named", "beside"])
def test_a_dataset_json_says_what_integers_mean(place: Path, named: bool) -> None:
    labels = _declare(place / "labels.json") if named else None
    if not named:
        _declare(place / "b/dataset.json")
    done = steps.combine([place / "a", place / "b"], place / "out", labels=labels)
    assert done.done == 1
    np.testing.assert_array_equal(read_mask(place / "out/case_0.nii.gz")[0], truth(0))


def test_without_any_it_says_how_to_name_one(place: Path) -> None:
    with pytest.raises(DataError, match="give --labels"):
        steps.combine([place / "a", place / "b"], place / "out")


@pytest.mark.parametrize(("weights", "filled"), [([1, 1, 3], False), ([1, 1, 1], True)])
def test_a_combiner_and_its_options_can_be_given(place: Path, weights: list[int], filled: bool) -> None:
    _declare(place / "dataset.json")
    options = json.dumps({"weights": weights})
    inputs = [str(place / name) for name in ("a", "b", "empty")]
    assert main(["-i", *inputs, "-o", str(place / "out"), "--combiner", "vote", "--options", options, "-q"]) == 0
    assert read_mask(place / "out/case_0.nii.gz")[0].any() == filled


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-i", "a", "b", "-o", "out", "--options", "{}"], "of a --combiner"),
        (["-i", "a", "b", "-o", "out", "--combiner", "vote", "--options", "[1]"], "no JSON object"),
        (["-i", "a", "b", "-o", "out", "--no-search"], "for choosing"),
        (["--combiner", "staple"], "give them with -i"),
        (["--clean", "--rule", "mean_dice"], "stands alone"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(capsys, arguments: list[str], words: str) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("second", ["b", "unknown"])
def test_only_masks_that_were_written_are_the_last_ones(place: Path, second: str) -> None:
    results = Results.make(place / "bts_workspace", 1)
    write_mask(place / "unknown/case_0.nii.gz", truth(0) + np.uint8(9), GEOMETRY)
    done = steps.combine([place / "a", place / second], place / "out")
    remembered = list(results.folder.glob(".last_predictions.json"))
    assert (done.done, len(remembered)) == ((1, 1) if second == "b" else (0, 0))


def test_an_interrupt_says_that_it_begins_anew(place: Path, monkeypatch, capsys) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(steps, "choose", interrupted)
    assert main([]) == 130
    assert "begins anew" in capsys.readouterr().err

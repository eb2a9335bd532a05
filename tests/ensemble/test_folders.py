"""Combining folders of predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bts_auto.combine.cache import CACHE_ENDING, write_cache
from bts_auto.combine.saved import probability_images
from bts_auto.data.labels import Labels
from bts_auto.data.readers import read_mask, write_map, write_mask
from bts_auto.data.volume import Geometry
from bts_auto.ensemble.folders import combine_folders
from bts_auto.errors import DataError, PlanError
from bts_auto.events import Observer
from tests.ensemble.make_results import GEOMETRY, SHAPE, truth

LABELS = Labels.from_dataset({"labels": {"background": 0, "necrosis": 1, "edema": 2, "enhancing": 3}})


class Notes(Observer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Three folders with two cases; the third sees nothing."""
    for name, filled in (("a", 1), ("b", 1), ("c", 0)):
        for number in range(2):
            write_mask(tmp_path / name / f"case_{number}.nii.gz", truth(number) * np.uint8(filled), GEOMETRY)
    return [tmp_path / name for name in "abc"]


def _save_probabilities(folder: Path, number: int, confidence: float) -> None:
    """nnU-Net's file: sure of the mask that lies beside it by `confidence`."""
    mask, _ = read_mask(folder / f"case_{number}.nii.gz")
    rest = (1 - confidence) / 3
    array = np.stack([np.where(mask == value, confidence, rest) for value in range(4)]).astype(np.float32)
    np.savez_compressed(folder / f"case_{number}.npz", probabilities=array)


def _save_regions(folder: Path, number: int, kind: str, confidence: float) -> None:
    """Our cache or images of a network that was trained on WT, TC and ET, sure of the mask beside it."""
    mask, _ = read_mask(folder / f"case_{number}.nii.gz")
    regions = LABELS.as_regions()
    channels = [np.where(np.isin(mask, one), confidence, 1 - confidence) for one in regions.members()]
    if kind == "cache":
        box = tuple(slice(0, n) for n in SHAPE)
        path = folder / f"case_{number}{CACHE_ENDING}"
        write_cache(path, channels, outputs=regions.outputs, box=box, shape=SHAPE)
        return
    for path, channel in zip(probability_images(folder, f"case_{number}", regions), channels, strict=True):
        write_map(path, channel.astype(np.float32), GEOMETRY)


def test_masks_are_voted_on_and_it_says_so(folders: list[Path], tmp_path: Path) -> None:
    notes = Notes()
    done = combine_folders(folders, tmp_path / "out", LABELS, observer=notes)
    assert (done.combiner, done.cases, done.failures) == ("vote", ["case_0", "case_1"], [])
    assert "by vote" in notes.lines[0]
    assert "in a tie the earliest folder decides" in notes.lines[0]
    for number in range(2):
        mask, geometry = read_mask(tmp_path / "out" / f"case_{number}.nii.gz")
        np.testing.assert_array_equal(mask, truth(number))
        assert not geometry.differences(GEOMETRY)


def test_probabilities_are_averaged_where_all_have_them(folders: list[Path], tmp_path: Path) -> None:
    for folder, confidence in zip(folders[1:], (0.9, 0.5), strict=True):
        for number in range(2):
            _save_probabilities(folder, number, confidence)
    notes = Notes()
    done = combine_folders(folders[1:], tmp_path / "out", LABELS, observer=notes)
    assert done.combiner == "mean"
    assert "every folder has probabilities" in notes.lines[0]
    np.testing.assert_array_equal(read_mask(tmp_path / "out" / "case_1.nii.gz")[0], truth(1))


def test_members_of_regions_are_averaged_with_members_of_labels(folders: list[Path], tmp_path: Path) -> None:
    _save_regions(folders[0], 0, "cache", 0.9), _save_regions(folders[0], 1, "images", 0.9)
    for number in range(2):
        _save_probabilities(folders[2], number, 0.6)  # sees background everywhere, but is less sure
    done = combine_folders([folders[0], folders[2]], tmp_path / "out", LABELS)
    assert (done.combiner, done.failures) == ("mean", [])
    for number in range(2):
        np.testing.assert_array_equal(read_mask(tmp_path / "out" / f"case_{number}.nii.gz")[0], truth(number))


@pytest.mark.parametrize("place", [0, 1])
def test_integers_that_the_dataset_does_not_know_are_refused(folders: list[Path], tmp_path: Path, place: int) -> None:
    strange = truth(0)
    strange[0, 0, :3], strange[0, 1, :7] = 4, 9
    write_mask(folders[place] / "case_0.nii.gz", strange, GEOMETRY)
    done = combine_folders(folders, tmp_path / "out", LABELS)
    assert done.cases == ["case_1"]
    assert f"{folders[place]}/case_0.nii.gz has labels" in done.failures[0].reason
    assert "4 (3 voxels), 9 (7 voxels)" in done.failures[0].reason


def test_one_missing_probability_means_voting_throughout(folders: list[Path], tmp_path: Path) -> None:
    for folder in folders:
        _save_probabilities(folder, 0, 0.9)
    done = combine_folders(folders, tmp_path / "out", LABELS)
    assert done.combiner == "vote"
    assert "case_1" in done.reason


def test_a_combiner_can_be_asked_for(folders: list[Path], tmp_path: Path) -> None:
    done = combine_folders(folders, tmp_path / "out", LABELS, combiner="staple", options={"mode": "labels"})
    assert done.combiner == "staple"
    np.testing.assert_array_equal(read_mask(tmp_path / "out" / "case_0.nii.gz")[0], truth(0))
    with pytest.raises(DataError, match="needs probabilities"):
        combine_folders(folders, tmp_path / "out", LABELS, combiner="mean")


def test_cases_that_cannot_be_combined_are_named_and_the_others_done(folders: list[Path], tmp_path: Path) -> None:
    write_mask(folders[1] / "case_0.nii.gz", truth(0), Geometry(SHAPE, (1.0, 1.0, 2.0)))
    write_mask(folders[2] / "case_9.nii.gz", truth(0), GEOMETRY)
    done = combine_folders(folders, tmp_path / "out", LABELS)
    assert done.cases == ["case_1"]
    grid, missing = done.failures
    assert grid.case == "case_0"
    assert "(1, 1, 1) against (1, 1, 2)" in grid.reason
    assert missing.case == "case_9"
    assert str(folders[0]) in missing.reason


def test_output_has_the_integers_of_a_submission(folders: list[Path], tmp_path: Path) -> None:
    labels = Labels.from_dataset(
        {"labels": {"background": 0, "necrosis": 1, "edema": 2, "enhancing": 3}, "submission_labels": {"3": 4}}
    )
    combine_folders(folders, tmp_path / "out", labels)
    combine_folders([tmp_path / "out", folders[0]], tmp_path / "again", labels)
    for name in ("out", "again"):
        assert set(np.unique(read_mask(tmp_path / name / "case_0.nii.gz")[0])) == {0, 1, 2, 4}


@pytest.mark.parametrize(("shape", "words"), [((4, 3, 3, 3), "do not lie on the grid"), ((3, *SHAPE), "for 4 outputs")])
def test_probabilities_that_do_not_fit_are_refused(folders, tmp_path: Path, shape, words: str) -> None:
    for folder in folders[:2]:
        for number in range(2):
            _save_probabilities(folder, number, 0.9)
    np.savez(folders[1] / "case_0.npz", probabilities=np.ones(shape, np.float32))
    done = combine_folders(folders[:2], tmp_path / "out", LABELS)
    assert done.cases == ["case_1"]
    assert words in done.failures[0].reason
    assert done.failures[0].reason.endswith(" - combine the masks, by vote or staple")


@pytest.mark.parametrize(
    ("chosen", "out", "words"),
    [
        ([0], "out", "fewer than two folders"),
        ([], "out", "fewer than two folders"),
        ([0, 1], "a", "one of the folders"),
        ([0, 1, 0], "out", "a: the same folder twice"),
    ],
)
def test_unsuitable_folders_are_one_clear_line(folders, tmp_path: Path, chosen, out: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        combine_folders([folders[i] for i in chosen], tmp_path / out, LABELS)


@pytest.mark.parametrize(
    ("options", "words"), [({"weight": [1, 2, 3]}, "'weight'"), ({"weights": [1, 2]}, "2 weights for 3 members")]
)
def test_options_that_do_not_fit_are_refused_before_a_case_is_read(folders, tmp_path: Path, options, words) -> None:
    with pytest.raises(PlanError, match=words):
        combine_folders(folders, tmp_path / "out", LABELS, combiner="vote", options=options)
    assert not (tmp_path / "out").exists()

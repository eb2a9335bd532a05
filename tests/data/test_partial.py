"""Cases that are annotated for some of the labels only."""

from __future__ import annotations

from pathlib import Path

import pytest

from bts_auto.data.cases import read_case
from bts_auto.data.labels import Labels
from bts_auto.data.partial import counts_in, indistinct, told
from bts_auto.data.raw import RawDataset
from bts_auto.errors import DataError
from tests.make_data import make_raw_dataset

TUMOUR = Labels({"background": (0,), "necrosis": (1,), "edema": (2,), "enhancing": (3,)})
REGIONS = TUMOUR.as_regions()  # WT, TC, ET


def dataset(folder: Path, partial: object) -> RawDataset:
    return RawDataset.open(make_raw_dataset(folder, n_cases=2, shape=(4, 5, 6), partial_labels=partial))


def test_a_label_that_was_not_looked_for_is_one_with_the_background() -> None:
    assert indistinct(TUMOUR, ["edema"]) == {0: 0, 1: 0, 2: 2, 3: 0}
    assert counts_in(TUMOUR, ("edema",)) == (0, 0, 2, 0)
    assert counts_in(TUMOUR, None) == (0, 1, 2, 3)


def test_a_region_leaves_its_labels_one_with_each_other() -> None:
    assert counts_in(TUMOUR, ("WT",)) == (0, 1, 1, 1)
    assert counts_in(TUMOUR, ("WT", "enhancing")) == (0, 1, 1, 3)


@pytest.mark.parametrize(
    ("annotated", "regions"),
    [
        (("WT",), (0, -1, -1)),
        (("enhancing",), (-1, -1, 2)),
        (("edema",), (-1, -1, -1)),
        (("necrosis", "enhancing"), (-1, 1, 2)),
        (("edema", "TC"), (0, 1, -1)),
    ],
)
def test_a_region_counts_where_its_border_is_known(annotated: tuple[str, ...], regions: tuple[int, ...]) -> None:
    assert counts_in(REGIONS, annotated) == regions


def test_what_can_be_scored() -> None:
    assert told(TUMOUR, None) == {"necrosis", "edema", "enhancing", "WT", "TC", "ET"}
    assert told(TUMOUR, ("enhancing",)) == {"enhancing", "ET"}
    assert told(TUMOUR, ("WT",)) == {"WT"}


def test_cases_know_what_they_are_annotated_for(tmp_path: Path) -> None:
    cases = dataset(tmp_path, {"case_001": ["edema", "ET"]}).training_cases()
    assert cases["case_000"].annotated is None
    assert cases["case_001"].annotated == ("edema", "ET")


@pytest.mark.parametrize(
    ("partial", "message"),
    [
        (["case_000"], "must map cases to lists"),
        ({"case_000": "edema"}, "must be a list of labels"),
        ({"case_000": []}, "is empty .*imagesUn"),
        ({"case_000": ["edma"]}, "names 'edma', which is no label .*did you mean 'edema'"),
        ({"case_000": ["background"]}, "names 'background'"),
    ],
)
def test_a_wrong_declaration_is_refused(tmp_path: Path, partial: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        dataset(tmp_path, partial)


def test_a_case_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="names case_9, which is no training case"):
        dataset(tmp_path, {"case_9": ["edema"]}).training_cases()


def test_a_mask_with_more_than_was_said_is_refused(tmp_path: Path) -> None:
    raw = dataset(tmp_path, {"case_000": ["edema"]})
    files = raw.training_cases()["case_000"]
    with pytest.raises(DataError, match=r"holds .*3, but 'partial_labels' in dataset\.json says that only edema"):
        read_case(files, raw.channels, raw.labels)

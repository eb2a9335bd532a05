"""A dataset with cases that are annotated in part, from its files to its scores."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from bts_auto.data.raw import RawDataset
from bts_auto.data.readers import read_mask, write_mask
from bts_auto.data.splits import Split
from bts_auto.errors import DataError
from bts_auto.events import Observer
from bts_auto.plan.schema import Plan
from bts_auto.preprocess.dataset import preprocess_dataset, store_folder
from bts_auto.preprocess.store import CaseStore
from bts_auto.train.journal import JOURNAL, read_journal
from bts_auto.train.trainer import TrainingResult, train_fold
from tests.make_data import TUMOUR, make_raw_dataset
from tests.train.tiny import NAME, tiny_plan

SPLIT = Split(("case_000", "case_001"), ("case_002",))


class Heard(Observer):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> RawDataset:
    """Cases 1 and 2 are annotated for edema alone."""
    partial = {"case_001": ["edema"], "case_002": ["edema"]}
    folder = make_raw_dataset(tmp_path_factory.mktemp("raw"), n_cases=3, partial_labels=partial)
    for case in partial:
        path = folder / "labelsTr" / f"{case}.nii.gz"
        mask, geometry = read_mask(path)
        write_mask(path, np.where(mask == 2, 2, 0).astype(np.uint8), geometry)
    return RawDataset.open(folder)


def train(raw: RawDataset, plan: Plan, folder: Path, split: Split = SPLIT, **options) -> TrainingResult:
    assert not preprocess_dataset(raw, plan, [NAME], folder, workers=1)
    store = CaseStore(store_folder(folder, plan, NAME))
    more = {"raw": raw, "device": "cpu", "workers": 0, "split": split} | options
    return train_fold(plan, NAME, 0, store=store, folder=folder / "fold_0", labels=plan.label_set(), **more)


def test_they_train_and_are_scored_for_what_they_tell(raw: RawDataset, tmp_path: Path) -> None:
    result = train(raw, tiny_plan(dict(TUMOUR), epochs=1), tmp_path)
    scored = {region for region, values in result.scores.cases["case_002"].items() if not math.isnan(values["dice"])}
    assert scored == {"edema"}
    (epoch,) = read_journal(tmp_path / "fold_0" / JOURNAL, "epoch")
    assert math.isfinite(epoch["loss"])
    assert epoch["dice"]["necrosis"] is None


def test_those_that_tell_nothing_of_what_is_trained_are_left_out_aloud(raw: RawDataset, tmp_path: Path) -> None:
    plan, heard = tiny_plan(dict(TUMOUR), epochs=1).model_copy(update={"target": "regions"}), Heard()
    train(raw, plan, tmp_path, observer=heard, validate=False)
    assert any("1 case(s) are left out, annotated for none of WT, TC, ET: case_001" in line for line in heard.warnings)
    with pytest.raises(DataError, match="no case is annotated for what is to be trained"):
        train(raw, plan, tmp_path, Split(("case_001",), ()), restart=True)

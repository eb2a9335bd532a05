"""Folds against scikit-learn's, and what becomes of them when cases come and go."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold

from bts_auto.data.case_table import write_case_table
from bts_auto.data.split_rules import SplitRules, patients_of
from bts_auto.data.splits import Split, load_or_make_splits, make_splits, present, read_splits
from bts_auto.documents import parse
from bts_auto.errors import DataError, PlanError
from bts_auto.events import Observer


class Listener(Observer):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.warnings: list[str] = []

    def note(self, message: str) -> None:
        self.lines.append(message)

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(2, 60), folds=st.integers(2, 7))
def test_equal_to_kfold(n: int, folds: int) -> None:
    cases = [f"case_{i:03d}" for i in range(n)]
    expected = KFold(min(folds, n), shuffle=True, random_state=12345).split(cases)
    found = make_splits(reversed(cases), folds)
    for split, (train, validation) in zip(found, expected, strict=True):
        assert split.train == tuple(np.array(cases)[train])
        assert split.validation == tuple(np.array(cases)[validation])


def test_one_case_trains_and_validates_on_nothing() -> None:
    (split,) = make_splits(["a"])
    assert (split.train, split.validation) == (("a",), ())


def test_no_case_is_an_error() -> None:
    with pytest.raises(DataError, match="no case"):
        make_splits([])


def test_scans_of_one_patient_stay_together() -> None:
    of_patient = {f"p{i}_{visit}": f"p{i}" for i in range(9) for visit in range(1 + i % 3)}
    for split in make_splits(of_patient, of_patient=of_patient):
        assert not {of_patient[c] for c in split.train} & {of_patient[c] for c in split.validation}


def test_patients_with_one_scan_each_change_nothing() -> None:
    cases = [f"c{i}" for i in range(12)]
    assert make_splits(cases, of_patient={case: f"z{case[::-1]}" for case in cases}) == make_splits(cases)


def folders(tmp_path: Path) -> tuple[Path, Path]:
    raw, preprocessed = tmp_path / "raw", tmp_path / "preprocessed"
    raw.mkdir()
    preprocessed.mkdir()
    return raw, preprocessed


def test_fewer_cases_than_folds_is_said_once(tmp_path: Path) -> None:
    raw, preprocessed = folders(tmp_path)
    listener = Listener()
    splits = load_or_make_splits(raw, preprocessed, ["a", "b", "c", "d"], listener)
    assert len(splits) == 4
    assert len(listener.lines) == 1
    assert "4 folds instead of 5" in listener.lines[0]
    assert load_or_make_splits(raw, preprocessed, ["a", "b", "c", "d"], listener) == splits
    assert len(listener.lines) == 1


def test_written_in_nnunets_format(tmp_path: Path) -> None:
    raw, preprocessed = folders(tmp_path)
    splits = load_or_make_splits(raw, preprocessed, [f"c{i}" for i in range(10)])
    content = json.loads((preprocessed / "splits.json").read_text())
    assert [set(fold) for fold in content] == [{"train", "val"}] * 5
    assert content[2]["val"] == list(splits[2].validation)


@pytest.mark.parametrize("where", ["raw", "preprocessed"])
def test_given_splits_are_obeyed(tmp_path: Path, where: str) -> None:
    raw, preprocessed = folders(tmp_path)
    given_splits = [{"train": ["a", "b"], "val": ["c"]}]
    (tmp_path / where / "splits_final.json").write_text(json.dumps(given_splits))
    (split,) = load_or_make_splits(raw, preprocessed, ["a", "b", "c"])
    assert (split.train, split.validation) == (("a", "b"), ("c",))
    assert not (preprocessed / "splits.json").exists()


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ([{"train": ["a"], "val": ["nobody"]}], "unknown cases: nobody"),
        ([{"train": ["a", "b"], "val": ["b"]}], "trains and validates on b"),
        ({"train": ["a"]}, "is not a list"),
        ([{"train": ["a"]}], "is not a list"),
        ([], "has no fold"),
    ],
)
def test_wrong_given_splits(tmp_path: Path, content: object, line: str) -> None:
    raw, preprocessed = folders(tmp_path)
    (raw / "splits_final.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=line):
        load_or_make_splits(raw, preprocessed, ["a", "b", "c"])


def test_new_and_removed_cases_leave_the_others_in_their_folds(tmp_path: Path) -> None:
    raw, preprocessed = folders(tmp_path)
    before = load_or_make_splits(raw, preprocessed, [f"c{i}" for i in range(10)])
    after = load_or_make_splits(raw, preprocessed, [f"c{i}" for i in range(1, 12)])
    for old, new in zip(before, after, strict=True):
        assert set(old.validation) - {"c0"} <= set(new.validation)
    held_out = sorted(case for split in after for case in split.validation)
    assert held_out == sorted(f"c{i}" for i in range(1, 12))


def test_patients_come_from_the_case_table(tmp_path: Path) -> None:
    raw, preprocessed = folders(tmp_path)
    cases = [f"c{i}" for i in range(8)]
    rows = "".join(f"{case},p{i // 2}\n" for i, case in enumerate(cases))
    (raw / "cases.csv").write_text("case,patient_id\n" + rows)
    splits = load_or_make_splits(raw, preprocessed, cases)
    assert len(splits) == 4
    assert {split.validation for split in splits} == {("c0", "c1"), ("c2", "c3"), ("c4", "c5"), ("c6", "c7")}


def test_a_case_that_comes_back_finds_its_fold_again(tmp_path: Path) -> None:
    raw, preprocessed = folders(tmp_path)
    cases = [f"c{i}" for i in range(6)]
    before = load_or_make_splits(raw, preprocessed, cases)
    number, gone = next((i, split.validation[0]) for i, split in enumerate(before) if len(split.validation) == 1)
    fewer = load_or_make_splits(raw, preprocessed, [case for case in cases if case != gone])
    assert fewer[number].validation == ()
    assert [split.validation for i, split in enumerate(fewer) if i != number] == [
        split.validation for i, split in enumerate(before) if i != number
    ]
    load_or_make_splits(raw, preprocessed, [*(case for case in cases if case != gone), "c9"])
    after = load_or_make_splits(raw, preprocessed, cases)
    assert after == before


def test_too_few_to_hold_out_draws_anew(tmp_path: Path) -> None:
    raw, preprocessed = folders(tmp_path)
    before = load_or_make_splits(raw, preprocessed, ["a", "b"])
    (alone,) = load_or_make_splits(raw, preprocessed, ["a"])
    assert (alone.train, alone.validation) == (("a",), ())
    assert load_or_make_splits(raw, preprocessed, ["a"]) == [alone]
    assert load_or_make_splits(raw, preprocessed, ["a", "b"]) == before


def test_reading_writes_nothing(tmp_path: Path) -> None:
    raw, preprocessed = folders(tmp_path)
    assert read_splits(raw, preprocessed) is None
    assert list(preprocessed.iterdir()) == []
    made = load_or_make_splits(raw, preprocessed, [f"c{i}" for i in range(10)])
    content = (preprocessed / "splits.json").read_bytes()
    found = read_splits(raw, preprocessed)
    assert found == made
    assert all("c3" not in (*split.train, *split.validation) for split in present(found, {"c1", "c2", "c4"}))
    assert (preprocessed / "splits.json").read_bytes() == content


def test_given_splits_may_name_cases_that_cannot_be_used(tmp_path: Path) -> None:
    raw, preprocessed = folders(tmp_path)
    (raw / "splits_final.json").write_text(json.dumps([{"train": ["a", "b"], "val": ["c", "d"]}]))
    (split,) = load_or_make_splits(raw, preprocessed, ["a", "c"], known=["a", "b", "c", "d"])
    assert (split.train, split.validation) == (("a",), ("c",))


def write_table(raw: Path, rows: dict[str, dict[str, str]]) -> None:
    raw.mkdir(parents=True, exist_ok=True)
    write_case_table(raw, rows)


def held_out(splits: list[Split], cases: list[str]) -> list[int]:
    return [len(set(split.validation) & set(cases)) for split in splits]


def test_patients_are_found_in_the_names_of_cases(tmp_path: Path) -> None:
    raw, preprocessed = folders(tmp_path)
    cases = [f"BraTS-GLI-{number:05d}-{visit:03d}" for number in range(12) for visit in range(3)]
    rules = SplitRules(patient_pattern=r"GLI-(\d+)")
    splits = load_or_make_splits(raw, preprocessed, cases, rules=rules)
    for split in splits:
        assert not {c[:15] for c in split.train} & {c[:15] for c in split.validation}
    assert sorted(case for split in splits for case in split.validation) == cases


def test_the_table_goes_before_the_pattern(tmp_path: Path) -> None:
    raw, _ = folders(tmp_path)
    write_table(raw, {"a1": {"patient_id": "p"}, "b1": {"patient_id": ""}})
    assert patients_of(["a1", "b1", "c1"], raw, r"^\w") == {"a1": "p", "b1": "b", "c1": "c"}


def test_names_without_a_patient_are_refused(tmp_path: Path) -> None:
    raw, preprocessed = folders(tmp_path)
    with pytest.raises(DataError, match=r"finds no patient in odd .*patient_id"):
        load_or_make_splits(raw, preprocessed, ["p1_a", "odd"], rules=SplitRules(patient_pattern=r"p(\d+)"))


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(PlanError, match="is no regular expression"):
        parse(SplitRules, {"patient_pattern": "(p"})


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), n=st.integers(10, 60), folds=st.integers(2, 6))
def test_every_fold_gets_its_share_of_each_stratum(seed: int, n: int, folds: int) -> None:
    rng = np.random.default_rng(seed)
    of_stratum = {f"case_{i:03d}": str(rng.choice(["HGG", "LGG", "?"], p=[0.7, 0.2, 0.1])) for i in range(n)}
    splits = make_splits(of_stratum, folds, of_stratum=of_stratum)
    assert sorted(case for split in splits for case in split.validation) == sorted(of_stratum)
    for stratum in set(of_stratum.values()):
        shares = held_out(splits, [case for case, own in of_stratum.items() if own == stratum])
        assert max(shares) - min(shares) <= 1
    sizes = held_out(splits, list(of_stratum))
    assert max(sizes) - min(sizes) <= 3  # one for each stratum at most


def test_strata_and_patients_together(tmp_path: Path) -> None:
    raw, preprocessed = folders(tmp_path)
    rows = {
        f"p{p:02d}_{visit}": {"patient_id": f"p{p:02d}", "grade": "HGG" if p < 15 else "LGG", "site": str(p % 2)}
        for p in range(20)
        for visit in range(1 + p % 2)
    }
    write_table(raw, rows)
    splits = load_or_make_splits(raw, preprocessed, rows, rules=SplitRules(stratify=("grade",)))
    for split in splits:
        assert not {c[:3] for c in split.train} & {c[:3] for c in split.validation}
        assert len({c[:3] for c in split.validation if rows[c]["grade"] == "LGG"}) == 1
    assert load_or_make_splits(raw, preprocessed, rows, rules=SplitRules(stratify=("grade",))) == splits


def test_new_cases_join_the_fold_that_lacks_their_stratum(tmp_path: Path) -> None:
    raw, preprocessed = folders(tmp_path)
    rows = {f"c{i:02d}": {"grade": "LGG" if i < 4 else "HGG"} for i in range(20)}
    write_table(raw, rows)
    rules = SplitRules(stratify=("grade",))
    before = load_or_make_splits(raw, preprocessed, rows, rules=rules)
    lacking = held_out(before, [case for case, row in rows.items() if row["grade"] == "LGG"]).index(0)
    write_table(raw, rows | {"new": {"grade": "LGG"}})
    after = load_or_make_splits(raw, preprocessed, [*rows, "new"], rules=rules)
    assert [("new" in split.validation) for split in after] == [fold == lacking for fold in range(5)]


def test_an_unknown_column_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    raw, preprocessed = folders(tmp_path)
    write_table(raw, {"a": {"grade": "1"}, "b": {"grade": "2"}})
    with pytest.raises(DataError, match=r"no column 'site' to stratify by .*it has grade"):
        load_or_make_splits(raw, preprocessed, ["a", "b"], rules=SplitRules(stratify=("site",)))


def test_rare_strata_are_named(tmp_path: Path) -> None:
    raw, preprocessed = folders(tmp_path)
    rows = {f"c{i}": {"grade": "LGG" if i == 0 else "HGG"} for i in range(10)}
    write_table(raw, rows)
    listener = Listener()
    load_or_make_splits(raw, preprocessed, rows, listener, rules=SplitRules(stratify=("grade",)))
    assert any(line.endswith("LGG (1)") for line in listener.lines)


def test_a_patient_on_both_sides_is_named(tmp_path: Path) -> None:
    """Given folds are refused; folds of ours, drawn before the patients were known, stay with a warning."""
    raw, preprocessed = folders(tmp_path)
    cases = [f"p{p}_{visit}" for p in range(5) for visit in range(2)]
    before = load_or_make_splits(raw, preprocessed, cases)
    listener = Listener()
    rules = SplitRules(patient_pattern=r"p\d+")
    assert load_or_make_splits(raw, preprocessed, cases, listener, rules=rules) == before
    (warning,) = listener.warnings
    assert "fold 0 trains and validates on patient p" in warning
    given = [{"train": ["p0_0", "p1_0"], "val": ["p1_1"]}]
    (preprocessed / "splits_final.json").write_text(json.dumps(given))
    with pytest.raises(DataError, match=r"fold 0 .*patient p1 \(p1_0 trains, p1_1 is held out\)"):
        load_or_make_splits(raw, preprocessed, cases, rules=rules)

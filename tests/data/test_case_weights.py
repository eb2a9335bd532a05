"""How often cases are drawn, as a column of ``cases.csv`` says."""

from __future__ import annotations

import pytest

from bts_auto.data.case_table import case_weights
from bts_auto.errors import DataError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "cases.csv").write_text("case,weight,bad\na,2.5,x\nb,,-1\nc,0,nan\n")
    return tmp_path


def test_an_empty_field_and_a_missing_case_count_once(folder):
    assert case_weights(folder, "weight", ["c", "b", "a", "d"]) == (0.0, 1.0, 2.5, 1.0)


def test_a_missing_column_is_named(folder):
    with pytest.raises(DataError, match="no column 'wieght'"):
        case_weights(folder, "wieght", ["a"])


@pytest.mark.parametrize("case", ["a", "b", "c"])
def test_what_is_no_weight_is_named_with_its_case(folder, case):
    with pytest.raises(DataError, match=f"of case {case} is no number"):
        case_weights(folder, "bad", [case])


def test_nothing_to_draw_is_refused(folder):
    with pytest.raises(DataError, match="0 for every case"):
        case_weights(folder, "weight", ["c"])

"""Errors are one line and survive the way through a process pool."""

from __future__ import annotations

import pickle

import pytest

from bts_auto.errors import BtsError, DataError


def test_the_line_says_where_what_and_how_to_mend():
    error = DataError("label value 7 is not in dataset.json", where="case_03", mend="correct the mask")
    assert str(error) == "case_03: label value 7 is not in dataset.json - correct the mask"


@pytest.mark.parametrize("error", [BtsError("a"), DataError("a", where="b"), DataError("a", where="b", mend="c")])
def test_errors_come_back_whole_from_another_process(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), again.where, again.mend) == (str(error), error.where, error.mend)

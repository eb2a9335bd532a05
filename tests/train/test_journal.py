"""The journal: lines that survive crashes and read back bit for bit."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from bts_auto.errors import DataError
from bts_auto.train.journal import Journal, read_journal
from bts_auto.train.progress_plot import draw_progress


def test_floats_read_back_bit_for_bit(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.write("epoch", loss=0.1 + 0.2, dice={"ET": math.nan})
    assert read_journal(tmp_path / "j") == [{"kind": "epoch", "loss": 0.1 + 0.2, "dice": {"ET": None}}]


def test_lines_after_the_offset_are_cut(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.write("epoch", epoch=0)
    offset = journal.offset
    journal.write("epoch", epoch=1)
    journal.close()
    journal = Journal(tmp_path / "j", offset)
    journal.write("epoch", epoch=10)
    assert [record["epoch"] for record in read_journal(tmp_path / "j")] == [0, 10]


def test_a_line_cut_off_by_a_crash_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b'{"kind": "epoch"}\n{"kind": "ep')
    assert read_journal(tmp_path / "j") == [{"kind": "epoch"}]


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b'{"kind"\n{"kind": "epoch"}\n')
    with pytest.raises(DataError, match="line 1"):
        read_journal(tmp_path / "j")


def test_one_kind_is_picked(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.write("epoch")
    journal.write("retry")
    assert len(read_journal(tmp_path / "j", "retry")) == 1


def test_the_plot_needs_an_epoch(tmp_path: Path) -> None:
    Journal(tmp_path / "journal.jsonl").close()
    assert draw_progress(tmp_path) is None

"""One process at a time trains a fold."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bts_auto.errors import BtsError
from bts_auto.train.lock import sole_process


def test_a_held_folder_is_refused_and_its_holder_named(tmp_path: Path) -> None:
    with (
        sole_process(tmp_path / "fold"),
        pytest.raises(BtsError, match=f"another process \\(number {os.getpid()}\\)"),
        sole_process(tmp_path / "fold"),
    ):
        pass


def test_a_folder_is_given_back(tmp_path: Path) -> None:
    for _ in range(2):
        with sole_process(tmp_path / "fold"):
            pass

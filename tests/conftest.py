"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.make_data import make_raw_dataset


@pytest.fixture(autouse=True)
def no_outside_workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the environment of the person who runs the tests out of them."""
    for name in ("BTS_WORKSPACE", "BTS_RAW", "BTS_PREPROCESSED", "BTS_RESULTS", "BTS_DATASET", "nnUNet_raw"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def raw_dataset(tmp_path: Path) -> Path:
    """Four fresh cases with two channels and three tumour labels, in ``tmp_path/raw``; tests may spoil them."""
    return make_raw_dataset(tmp_path / "raw")


@pytest.fixture(scope="session")
def shared_raw_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same dataset, made once for all tests; read only."""
    return make_raw_dataset(tmp_path_factory.mktemp("shared") / "raw")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real MRI, from ``$BTS_TEST_DATA`` or beside the project; skips when it is absent."""
    folder = Path(os.environ.get("BTS_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not (folder / "Dataset021_BraTS2013").is_dir():
        pytest.skip(f"no real MRI in {folder} (set BTS_TEST_DATA)")
    return folder

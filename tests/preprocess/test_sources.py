"""Remembered content hashes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from bts_auto.preprocess import sources
from bts_auto.preprocess.sources import FileHashes, hash_files

LONG_AGO = 1_600_000_000


def make_file(path: Path, content: bytes = b"scan", time: int = LONG_AGO) -> Path:
    path.write_bytes(content)
    os.utime(path, (time, time))
    return path


def test_hashes_are_those_of_the_content(tmp_path: Path) -> None:
    file = make_file(tmp_path / "a")
    found = hash_files([file, tmp_path / "missing"])
    assert {name: digest for name, (_, digest) in found.items()} == {str(file): hashlib.sha256(b"scan").hexdigest()}


def test_an_unchanged_file_is_known_to_the_next_run(tmp_path: Path) -> None:
    file, cache = make_file(tmp_path / "a"), tmp_path / "hashes.json"
    first = FileHashes(cache)
    assert first.known([file]) is None
    first.remember(hash_files([file]))
    first.save()
    assert FileHashes(cache).known([file]) == {str(file): hashlib.sha256(b"scan").hexdigest()}


@pytest.mark.parametrize("change", ["touched", "grown", "removed"])
def test_a_changed_file_is_not_known(tmp_path: Path, change: str) -> None:
    file = make_file(tmp_path / "a")
    hashes = FileHashes(tmp_path / "hashes.json")
    hashes.remember(hash_files([file]))
    if change == "touched":
        make_file(file, time=LONG_AGO + 1)
    elif change == "grown":
        make_file(file, b"scans")
    else:
        file.unlink()
    assert hashes.known([file]) is None


def test_a_file_that_was_just_written_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources.time, "time_ns", lambda: LONG_AGO * 10**9 + 10**9)
    file, hashes = make_file(tmp_path / "a"), FileHashes(tmp_path / "hashes.json")
    hashes.remember(hash_files([file]))
    assert hashes.known([file]) is None


def test_files_no_longer_used_are_forgotten(tmp_path: Path) -> None:
    files = [make_file(tmp_path / name) for name in "ab"]
    hashes = FileHashes(tmp_path / "hashes.json")
    hashes.remember(hash_files(files))
    hashes.keep_only(files[:1])
    assert hashes.known(files[1:]) is None
    assert hashes.known(files[:1]) is not None


def test_a_damaged_cache_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "hashes.json").write_text("[1, 2")
    assert FileHashes(tmp_path / "hashes.json").known([make_file(tmp_path / "a")]) is None


def test_nothing_is_written_when_nothing_changed(tmp_path: Path) -> None:
    FileHashes(tmp_path / "hashes.json").save()
    assert not (tmp_path / "hashes.json").exists()

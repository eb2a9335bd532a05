"""Atomic writing, JSON and hashes."""

from __future__ import annotations

import hashlib

import pytest

from bts_auto.errors import BtsError
from bts_auto.files import atomic_folder, atomic_path, hash_file, hash_json, read_json, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "plan.json"
    write_json(path, {"a": 1})

    def write_half():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("killed here")

    with pytest.raises(RuntimeError):
        write_half()
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


def test_the_temporary_name_keeps_the_suffixes(tmp_path):
    with atomic_path(tmp_path / "mask.nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")
        temporary.write_bytes(b"x")
    assert (tmp_path / "mask.nii.gz").read_bytes() == b"x"


def test_a_failed_folder_leaves_the_old_one(tmp_path):
    folder = tmp_path / "case"
    with atomic_folder(folder) as temporary:
        (temporary / "a").write_text("1")

    def write_half():
        with atomic_folder(folder) as temporary:
            (temporary / "a").write_text("2")
            raise RuntimeError("killed here")

    with pytest.raises(RuntimeError):
        write_half()
    assert (folder / "a").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["case"]


def test_a_folder_replaces_the_old_one_as_a_whole(tmp_path):
    folder = tmp_path / "case"
    for name in ("old", "new"):
        with atomic_folder(folder) as temporary:
            (temporary / name).write_text(name)
    assert [p.name for p in folder.iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["case"]


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"dice": float("nan")})
    assert not (tmp_path / "x.json").exists()


def test_broken_json_is_one_line_with_the_path(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"a": ')
    with pytest.raises(BtsError, match=r"x\.json: is not valid JSON"):
        read_json(path)


def test_missing_json_names_the_path(tmp_path):
    with pytest.raises(BtsError, match=r"none\.json: no such file"):
        read_json(tmp_path / "none.json")


def test_json_hash_does_not_depend_on_key_order():
    assert hash_json({"a": 1, "b": [2.5]}) == hash_json({"b": [2.5], "a": 1})
    assert hash_json({"a": 1}) != hash_json({"a": 2})


def test_file_hash_is_sha256(tmp_path):
    data = bytes(range(256)) * 10_000
    (tmp_path / "x").write_bytes(data)
    assert hash_file(tmp_path / "x") == hashlib.sha256(data).hexdigest()

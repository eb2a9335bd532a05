"""Archives that mean harm."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from bts_auto.errors import ModelError
from bts_auto.model.archive import checked_archive, read_entry


def write(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, b"0" * 1000)
    return path


def refuse(path: Path, message: str, **limits: int) -> None:
    with pytest.raises(ModelError, match=message), checked_archive(path, **limits):
        pass


@pytest.mark.parametrize("name", ["../up", "a/../../up", "/root", "C:/windows", "a\\..\\b"])
def test_names_that_lead_outside(tmp_path: Path, name: str) -> None:
    refuse(write(tmp_path / "a.zip", name), "unsafe name")


def test_links(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    refuse(tmp_path / "a.zip", "holds a link")


def test_names_that_are_one_file_on_some_systems(tmp_path: Path) -> None:
    refuse(write(tmp_path / "a.zip", "Plan.json", "plan.json"), "twice")


def test_more_than_the_limit(tmp_path: Path) -> None:
    refuse(write(tmp_path / "a.zip", "a", "b"), "would unpack to 2000 bytes, more than 1999", max_bytes=1999)


def test_a_document_that_is_too_large(tmp_path: Path) -> None:
    with (
        pytest.raises(ModelError, match="a has 1000 bytes, more than 999"),
        checked_archive(write(tmp_path / "a.zip", "a")) as archive,
    ):
        read_entry(archive, "a", max_bytes=999)


def test_a_missing_entry_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(ModelError, match=r"a\.zip: holds no b"),
        checked_archive(write(tmp_path / "a.zip", "a")) as archive,
    ):
        read_entry(archive, "b")


def test_damage_that_shows_on_reading(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zip", "a")
    data = bytearray(path.read_bytes())
    data[35] ^= 0xFF  # within the compressed content
    path.write_bytes(data)
    with pytest.raises(ModelError, match="is damaged"), checked_archive(path) as archive:
        read_entry(archive, "a")


def test_no_archive_at_all(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_text("text")
    refuse(tmp_path / "a.zip", "is damaged or no zip archive")
    refuse(tmp_path / "none.zip", "no such file")

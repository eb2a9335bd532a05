"""Prepared cases on disk."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bts_auto.data.labels import Labels
from bts_auto.errors import DataError
from bts_auto.preprocess.prepare import OUTSIDE, Prepared, prepare
from bts_auto.preprocess.store import FOREGROUND, IMAGE, MASK, PROPERTIES, CaseStore, StoredCase
from tests.preprocess.helpers import make_configuration, make_plan, make_volume

PLAN = make_plan()
LABELS = Labels({"background": (0,), "whole": (1, 2), "core": (1,)}, regions_class_order=(2, 1))


def make_prepared(shape: tuple[int, int, int] = (20, 22, 24), config: str = "3d_fullres") -> Prepared:
    volume = make_volume(shape)
    mask = np.zeros(shape, np.uint8)
    mask[5:9, 6:10, 7:12] = 2
    mask[6:8, 7:9, 8:10] = 1
    return prepare(volume, PLAN, PLAN.configuration(config), mask)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[StoredCase, Prepared]:
    store, prepared = CaseStore(tmp_path_factory.mktemp("store")), make_prepared()
    store.write("case", prepared, labels=LABELS, patch_size=(8, 8, 8), dtype="float32")
    return store.open("case"), prepared


def test_what_is_written_is_read(stored: tuple[StoredCase, Prepared]) -> None:
    case, prepared = stored
    np.testing.assert_array_equal(case.image[:], prepared.image)
    np.testing.assert_array_equal(case.mask[:], prepared.mask)
    assert case.shape == prepared.image.shape
    assert case.steps == prepared.steps
    assert case.annotated
    assert case.properties["spacing"] == [1.0, 1.0, 1.0]


def test_foreground_points_at_its_labels(stored: tuple[StoredCase, Prepared]) -> None:
    case, prepared = stored
    assert prepared.mask is not None
    assert {key: len(voxels) for key, voxels in case.foreground.items()} == {1: 8, 2: 72, "whole": 80, "core": 8}
    for key, members in ((1, (1,)), (2, (2,)), ("whole", (1, 2)), ("core", (1,))):
        assert np.isin(prepared.mask[tuple(case.foreground[key].T)], members).all()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(-9, 25), st.integers(1, 12)), min_size=3, max_size=3))
def test_reading_beyond_the_volume_pads(stored: tuple[StoredCase, Prepared], where: list[tuple[int, int]]) -> None:
    case, prepared = stored
    assert prepared.mask is not None
    box = [(low, low + size) for low, size in where]
    around = [(40, 40)] * 3
    inside = tuple(slice(low + 40, high + 40) for low, high in box)
    image, mask = case.read(box)
    np.testing.assert_array_equal(image, np.pad(prepared.image, [(0, 0), *around])[(slice(None), *inside)])
    np.testing.assert_array_equal(mask, np.pad(prepared.mask, around, constant_values=OUTSIDE)[inside])
    assert (image.dtype, mask.dtype) == (np.float32, np.int16)


def test_half_precision_is_the_default(tmp_path: Path) -> None:
    store, prepared = CaseStore(tmp_path), make_prepared()
    store.write("case", prepared)
    image = store.open("case").image
    assert image.dtype == np.float16
    np.testing.assert_allclose(image[:], prepared.image, rtol=2**-11, atol=1e-6)
    assert store.open("case").mask.dtype == np.int8


def test_raw_intensities_fall_back_to_single_precision(tmp_path: Path) -> None:
    plan = make_plan({"3d_fullres": make_configuration(normalization_schemes=["NoNormalization"] * 2)})
    volume = make_volume()
    volume.array[:, 2:-2, 2:-2, 2:-2] += 60000
    prepared = prepare(volume, plan, plan.configuration("3d_fullres"))
    store = CaseStore(tmp_path)
    store.write("case", prepared)
    np.testing.assert_array_equal(store.open("case").image[:], prepared.image)


def test_a_case_without_annotation(tmp_path: Path) -> None:
    store = CaseStore(tmp_path)
    store.write("case", prepare(make_volume(), PLAN, PLAN.configuration("3d_fullres")))
    case = store.open("case")
    assert not case.annotated
    assert case.foreground == {}
    assert not case.mask[:].any()


def test_a_case_without_foreground(tmp_path: Path) -> None:
    store, volume = CaseStore(tmp_path), make_volume()
    mask = np.zeros(volume.geometry.size, np.uint8)
    store.write("case", prepare(volume, PLAN, PLAN.configuration("3d_fullres"), mask), labels=LABELS)
    assert store.open("case").annotated
    assert store.open("case").foreground == {}


def test_a_folder_holds_cases_and_nothing_else(tmp_path: Path) -> None:
    store = CaseStore(tmp_path / "store")
    assert store.cases() == []
    for case in ("b", "a", "a.mask"):
        store.write(case, make_prepared())
    (store.folder / ".writing-x").mkdir()
    (store.folder / "notes.txt").touch()
    assert store.cases() == ["a", "a.mask", "b"]
    assert {path.name for path in (store.folder / "a").iterdir()} == {IMAGE, MASK, FOREGROUND, PROPERTIES}
    store.remove_leftovers()
    store.remove("a")
    store.remove("never there")
    assert {path.name for path in store.folder.iterdir()} == {"a.mask", "b", "notes.txt"}


def test_a_failed_write_keeps_the_older_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, prepared = CaseStore(tmp_path), make_prepared()
    store.write("case", prepared, record={"key": "old"})

    def full(*args: object, **kwargs: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("bts_auto.preprocess.store.np.save", full)
    with pytest.raises(OSError, match="No space"):
        store.write("case", prepared, record={"key": "new"})
    assert store.record("case") == {"key": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["case"]


def test_sharing_takes_no_space(tmp_path: Path) -> None:
    one, other, prepared = CaseStore(tmp_path / "one"), CaseStore(tmp_path / "other"), make_prepared()
    one.write("case", prepared, labels=LABELS)
    other.share("case", one, prepared, {"key": "k"})
    assert (one.folder / "case" / IMAGE).samefile(other.folder / "case" / IMAGE)
    one.remove("case")
    np.testing.assert_array_equal(other.open("case").mask[:], prepared.mask)
    assert len(other.open("case").foreground[2]) == 72
    assert other.record("case") == {"key": "k"}


def test_sharing_copies_where_links_are_impossible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def impossible(*args: object) -> None:
        raise OSError("cross-device link")

    monkeypatch.setattr("os.link", impossible)
    one, other, prepared = CaseStore(tmp_path / "one"), CaseStore(tmp_path / "other"), make_prepared()
    one.write("case", prepared)
    other.share("case", one, prepared)
    np.testing.assert_array_equal(other.open("case").image[:], one.open("case").image[:])


def test_cases_travel_to_other_processes(stored: tuple[StoredCase, Prepared]) -> None:
    case, _ = stored
    case.image[0, 0, 0, 0]
    back = pickle.loads(pickle.dumps(case))
    np.testing.assert_array_equal(back.image[:], case.image[:])


def test_missing_damaged_and_foreign_cases_are_named(tmp_path: Path) -> None:
    store = CaseStore(tmp_path)
    with pytest.raises(DataError, match="no such preprocessed case"):
        store.open("nobody")
    store.write("case", make_prepared(), record={"key": "k"})
    (tmp_path / "case" / IMAGE).write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"image\.b2nd: cannot be read"):
        _ = store.open("case").image
    properties = tmp_path / "case" / PROPERTIES
    properties.write_text(json.dumps(json.loads(properties.read_text()) | {"version": 0}))
    with pytest.raises(DataError, match="another version"):
        store.open("case")
    assert store.record("case") == {}
    properties.write_text("{")
    assert store.record("case") == {}

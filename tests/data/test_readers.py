"""Image files read and written: values, geometry, and every damaged file."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from bts_auto.data.readers import read_mask, read_volume, suffix_of, write_map, write_mask
from bts_auto.data.volume import Geometry
from bts_auto.errors import DataError
from tests.make_data import write_image

ARRAY = np.random.default_rng(0).integers(1, 900, size=(5, 6, 7)).astype(np.int16)
TURNED = (0.0, -1.0, 0.0, 0.0, 0.0, -1.0, 1.0, 0.0, 0.0)
VOLUMES = (".nii.gz", ".nii", ".nrrd", ".mha")


def oblique() -> tuple[float, ...]:
    c, s = np.cos(0.3), np.sin(0.3)
    return (c, -s, 0.0, s, c, 0.0, 0.0, 0.0, 1.0)


def sheared(path: Path, shear: float, sform_code: int = 1, qform_code: int = 0) -> np.ndarray:
    """A NIfTI file whose sform has a shear; returns the affine."""
    write_image(path, ARRAY)
    raw = bytearray(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
    affine = np.array([[1.5, shear, 0, 10], [0, 2.0, 0, -20], [0, 0, 3.0, 30]])
    struct.pack_into("<2h", raw, 252, qform_code, sform_code)
    struct.pack_into("<12f", raw, 280, *affine.ravel())
    path.write_bytes(gzip.compress(bytes(raw)) if path.suffix == ".gz" else bytes(raw))
    return affine


@pytest.mark.parametrize("suffix", VOLUMES)
@pytest.mark.parametrize("direction", [None, TURNED, oblique()])
def test_volume_has_itks_values_and_geometry(tmp_path: Path, suffix: str, direction) -> None:
    path = write_image(tmp_path / f"a{suffix}", ARRAY, (3.0, 0.5, 0.75), (1.0, -2.0, 3.5), direction)
    volume = read_volume([path], ("T1",))
    image = sitk.ReadImage(str(path))
    assert volume.array.dtype == np.float32
    np.testing.assert_array_equal(volume.array[0], ARRAY)
    np.testing.assert_allclose(volume.geometry.spacing, image.GetSpacing()[::-1])
    np.testing.assert_allclose(volume.geometry.origin, image.GetOrigin())
    np.testing.assert_allclose(volume.geometry.direction, image.GetDirection())


@pytest.mark.parametrize("suffix", VOLUMES)
def test_mask_returns_with_the_inputs_geometry(tmp_path: Path, suffix: str) -> None:
    path = write_image(tmp_path / f"a{suffix}", ARRAY, (3.0, 0.5, 0.75), (1.0, -2.0, 3.5), oblique())
    geometry = read_volume([path], ("T1",)).geometry
    write_mask(tmp_path / f"out{suffix}", ARRAY % 5, geometry)
    image, out = sitk.ReadImage(str(path)), sitk.ReadImage(str(tmp_path / f"out{suffix}"))
    assert out.GetPixelID() == sitk.sitkUInt8
    np.testing.assert_array_equal(sitk.GetArrayFromImage(out), ARRAY % 5)
    assert out.GetSpacing() == image.GetSpacing()
    np.testing.assert_allclose(out.GetOrigin(), image.GetOrigin(), atol=1e-6)
    np.testing.assert_allclose(out.GetDirection(), image.GetDirection(), atol=1e-7)


@settings(max_examples=25, deadline=None)
@given(
    angle=st.floats(-3.0, 3.0),
    spacing=st.tuples(*[st.floats(0.2, 9.0)] * 3),
    origin=st.tuples(*[st.floats(-300, 300)] * 3),
    suffix=st.sampled_from(VOLUMES),
)
def test_any_geometry_survives_a_round_trip(tmp_path_factory, angle, spacing, origin, suffix) -> None:
    path = tmp_path_factory.mktemp("trip") / f"mask{suffix}"
    c, s = float(np.cos(angle)), float(np.sin(angle))
    geometry = Geometry((2, 3, 4), spacing, origin, (c, 0.0, s, 0.0, 1.0, 0.0, -s, 0.0, c))
    mask = np.arange(24).reshape(2, 3, 4)
    write_mask(path, mask, geometry)
    array, found = read_mask(path)
    np.testing.assert_array_equal(array, mask)
    assert found.differences(geometry) == []


def test_map_keeps_floats(tmp_path: Path) -> None:
    values = np.random.default_rng(1).random((2, 3, 4))
    write_map(tmp_path / "m.nii.gz", values, Geometry((2, 3, 4), (1.0, 1.0, 1.0)))
    np.testing.assert_array_equal(read_volume([tmp_path / "m.nii.gz"], ("p",)).array[0], values.astype(np.float32))


@pytest.mark.parametrize(("value", "kind"), [(255, np.uint8), (256, np.uint16), (-1, np.int16), (70_000, np.int32)])
def test_mask_is_stored_in_the_smallest_type(tmp_path: Path, value: int, kind: type) -> None:
    write_mask(tmp_path / "m.nii.gz", np.full((2, 2, 2), value), Geometry((2, 2, 2), (1.0, 1.0, 1.0)))
    mask, _ = read_mask(tmp_path / "m.nii.gz")
    assert mask.dtype == kind
    assert (mask == value).all()


def test_two_channels_are_stacked_in_order(tmp_path: Path) -> None:
    paths = [write_image(tmp_path / f"a_{i}.nii.gz", ARRAY + i) for i in range(2)]
    volume = read_volume(paths, ("T1", "T2"))
    np.testing.assert_array_equal(volume.array, np.stack([ARRAY, ARRAY + 1]))


# Flat images


def test_rgb_png_is_three_channels_with_nnunets_spacing(tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, size=(8, 9, 3), dtype=np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), str(tmp_path / "a_0000.png"))
    volume = read_volume([tmp_path / "a_0000.png"], ("R", "G", "B"))
    np.testing.assert_array_equal(volume.array[:, 0], pixels.transpose(2, 0, 1))
    assert volume.geometry.spacing == (999.0, 1.0, 1.0)
    assert volume.geometry.size == (1, 8, 9)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_flat_mask_is_written_flat(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(ARRAY[0].astype(np.uint8)), str(path))
    mask, geometry = read_mask(path)
    write_mask(tmp_path / f"out{suffix}", mask, geometry)
    out = sitk.ReadImage(str(tmp_path / f"out{suffix}"))
    assert out.GetDimension() == 2
    np.testing.assert_array_equal(sitk.GetArrayFromImage(out), ARRAY[0].astype(np.uint8))


def test_flat_nifti_keeps_its_geometry(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(ARRAY[0])
    image.SetSpacing((0.5, 0.7))
    image.SetOrigin((3.0, 4.0))
    sitk.WriteImage(image, str(tmp_path / "a.nii.gz"))
    volume = read_volume([tmp_path / "a.nii.gz"], ("T1",))
    np.testing.assert_allclose(volume.geometry.spacing, (0.7 * 999, 0.7, 0.5), rtol=1e-6)
    write_mask(tmp_path / "out.nii.gz", (volume.array[0] > 400).astype(np.uint8), volume.geometry)
    out, stored = sitk.ReadImage(str(tmp_path / "out.nii.gz")), sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    assert (out.GetSize(), out.GetSpacing(), out.GetOrigin()) == (
        stored.GetSize(),
        stored.GetSpacing(),
        stored.GetOrigin(),
    )


def test_tiff_stack_takes_its_spacing_from_the_file_beside(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(ARRAY.astype(np.uint16)), str(tmp_path / "a_0000.tif"))
    (tmp_path / "a.json").write_text('{"spacing": [3.0, 0.5, 0.25]}')
    volume = read_volume([tmp_path / "a_0000.tif"], ("C",))
    assert volume.geometry.spacing == (3.0, 0.5, 0.25)
    assert volume.geometry.size == ARRAY.shape


def test_four_dimensional_file_holds_channels(tmp_path: Path) -> None:
    parts = [sitk.GetImageFromArray(ARRAY + i) for i in range(3)]
    sitk.WriteImage(sitk.JoinSeries(parts), str(tmp_path / "a.nii.gz"))
    volume = read_volume([tmp_path / "a.nii.gz"], ("T1", "T2", "FLAIR"))
    np.testing.assert_array_equal(volume.array, np.stack([ARRAY, ARRAY + 1, ARRAY + 2]))


# Headers that ITK refuses


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("shear", [0.002, 0.3])
def test_sheared_header_is_read_and_returned_as_it_was(tmp_path: Path, suffix: str, shear: float) -> None:
    affine = sheared(tmp_path / f"a{suffix}", shear)
    with pytest.raises(RuntimeError, match="orthonormal"):
        sitk.ReadImage(str(tmp_path / f"a{suffix}"))
    volume = read_volume([tmp_path / f"a{suffix}"], ("T1",))
    np.testing.assert_array_equal(volume.array[0], ARRAY)
    direction = np.array(volume.geometry.direction).reshape(3, 3)
    np.testing.assert_allclose(direction @ direction.T, np.eye(3), atol=1e-12)
    write_mask(tmp_path / f"out{suffix}", ARRAY % 3, volume.geometry)
    mask, geometry = read_mask(tmp_path / f"out{suffix}")
    np.testing.assert_array_equal(mask, ARRAY % 3)
    np.testing.assert_allclose(geometry.affine, affine.ravel(), rtol=1e-6)


def test_singular_header_is_refused(tmp_path: Path) -> None:
    sheared(tmp_path / "a.nii", 0.0)
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    struct.pack_into("<12f", raw, 280, *([0.0] * 12))
    (tmp_path / "a.nii").write_bytes(raw)
    with pytest.raises(DataError, match="singular"):
        read_volume([tmp_path / "a.nii"], ("T1",))


# Damaged files


def broken(path: Path, how: str) -> Path:
    """Write a good file and spoil it."""
    write_image(path, np.random.default_rng(5).integers(0, 30_000, size=(20, 40, 40)).astype(np.int16))
    raw = path.read_bytes()
    if how == "empty":
        path.write_bytes(b"")
    elif how == "half":
        path.write_bytes(raw[: len(raw) // 2])
    elif how == "tail":
        path.write_bytes(raw[:-4])
    elif how == "text":
        path.write_text("this is no image\n" * 50)
    elif how == "flipped":
        at = len(raw) - 1000
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 0xFF]) + raw[at + 1 :])
    return path


@pytest.mark.parametrize(
    ("suffix", "how", "line"),
    [
        (".nii.gz", "empty", "is empty"),
        (".nii.gz", "half", "is truncated"),
        (".nii.gz", "tail", "is truncated"),
        (".nii.gz", "text", "is not a NIfTI file"),
        (".nii.gz", "flipped", "is damaged"),
        (".nii", "empty", "is empty"),
        (".nii", "half", "is truncated"),
        (".nii", "tail", "is truncated"),
        (".nii", "text", "is not a NIfTI file"),
        (".nrrd", "half", "cannot be read"),
        (".mha", "half", "cannot be read"),
        (".mha", "text", "cannot be read"),
        (".png", "text", "cannot be read"),
    ],
)
def test_damaged_file_gives_one_line(tmp_path: Path, suffix: str, how: str, line: str) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".png":
        path.write_text("text")
    else:
        broken(path, how)
    with pytest.raises(DataError, match=line) as caught:
        read_volume([path], ("T1",))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_gzip_of_several_members_is_whole(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.nii.gz", ARRAY)
    raw = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(raw[:500]) + gzip.compress(raw[500:]))
    np.testing.assert_array_equal(read_volume([path], ("T1",)).array[0], ARRAY)


def test_rescaled_file_is_whole(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.nii.gz", ARRAY)
    raw = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into("<2f", raw, 112, 2.0, 5.0)
    path.write_bytes(gzip.compress(bytes(raw)))
    np.testing.assert_allclose(read_volume([path], ("T1",)).array[0], ARRAY * 2.0 + 5.0)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_volume([tmp_path / "a.nii.gz"], ("T1",))


def test_unknown_format() -> None:
    with pytest.raises(DataError, match="unknown image format"):
        suffix_of("a.jpeg2")


@pytest.mark.parametrize("suffix", VOLUMES)
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_nan_is_counted(tmp_path: Path, suffix: str, kind: type) -> None:
    array = ARRAY.astype(kind)
    array[0, 0, :3] = np.nan
    array[1, 1, 1] = np.inf
    path = write_image(tmp_path / f"a{suffix}", array)
    with pytest.raises(DataError, match="3 NaN and 1 infinite voxels"):
        read_volume([path], ("T1",))
    found = read_volume([path], ("T1",), nan_to_zero=True).array[0]
    np.testing.assert_array_equal(found, np.where(np.isfinite(array), array, 0))


def test_all_zero_image(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="every voxel is 0"):
        read_volume([write_image(tmp_path / "a.nii.gz", ARRAY * 0)], ("T1",))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"array": ARRAY[:4]}, r"size \(4, 6, 7\) against \(5, 6, 7\)"),
        ({"spacing": (1.0, 1.0, 2.0)}, "spacing"),
        ({"origin": (0.0, 0.0, 5.0)}, "origin"),
        ({"direction": oblique()}, "direction"),
        ({"direction": (-1, 0, 0, 0, -1, 0, 0, 0, 1)}, "orientation RAS against LPS"),
    ],
)
def test_channels_on_different_grids(tmp_path: Path, change: dict, line: str) -> None:
    first = write_image(tmp_path / "a_0000.nii.gz", ARRAY)
    other = write_image(tmp_path / "a_0001.nii.gz", **({"array": ARRAY} | change))
    with pytest.raises(DataError, match=line):
        read_volume([first, other], ("T1", "T2"))


def test_wrong_number_of_channels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 channel where 2 are expected"):
        read_volume([write_image(tmp_path / "a.nii.gz", ARRAY)], ("T1", "T2"))


def test_an_empty_channel_of_a_file_with_several(tmp_path: Path) -> None:
    array = np.stack([ARRAY, 0 * ARRAY])
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=False), str(tmp_path / "a.nii.gz"))
    with pytest.raises(DataError, match="every voxel of channel 1 is 0"):
        read_volume([tmp_path / "a.nii.gz"], ("T1", "T2"))


def test_complex_numbers(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(ARRAY.astype(np.complex64)), str(tmp_path / "a.nii.gz"))
    with pytest.raises(DataError, match="complex"):
        read_volume([tmp_path / "a.nii.gz"], ("T1",))


def test_mask_with_fractions(tmp_path: Path) -> None:
    path = write_image(tmp_path / "m.nii.gz", ARRAY.astype(np.float32) / 2)
    with pytest.raises(DataError, match="not integers"):
        read_mask(path)


def test_whole_numbers_in_a_float_mask(tmp_path: Path) -> None:
    mask, _ = read_mask(write_image(tmp_path / "m.nii.gz", ARRAY.astype(np.float64)))
    assert mask.dtype.kind == "i"
    np.testing.assert_array_equal(mask, ARRAY)


def test_failed_write_leaves_nothing(tmp_path: Path) -> None:
    geometry = Geometry((5, 6, 7), (1.0, 1.0, 1.0))
    with pytest.raises(DataError, match="one slice"):
        write_mask(tmp_path / "m.png", ARRAY, geometry)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_a_full_disk_is_no_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    """ITK's NIfTI writer stops in the middle and raises nothing."""
    whole = sitk.WriteImage

    def stops(image: sitk.Image, name: str, **how: object) -> None:
        whole(image, name, **how)
        os.truncate(name, os.path.getsize(name) - 30)

    monkeypatch.setattr(sitk, "WriteImage", stops)
    array = np.random.default_rng(0).integers(0, 4, (9, 8, 7)).astype(np.uint8)
    with pytest.raises(DataError, match="cannot be written whole"):
        write_mask(tmp_path / f"mask{ending}", array, Geometry(array.shape, (1, 1, 1)))
    assert list(tmp_path.iterdir()) == []


def test_a_header_with_its_voxels_apart_names_them_rightly(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    write_mask(tmp_path / "mask.mhd", array, Geometry(array.shape, (3, 2, 1)))
    assert len(list(tmp_path.iterdir())) == 2
    (tmp_path / "mask.mhd").rename(tmp_path / "other.mhd")
    np.testing.assert_array_equal(read_mask(tmp_path / "other.mhd")[0], array)
    assert not list(tmp_path.glob(".*"))

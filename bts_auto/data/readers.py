"""Reading and writing image files: NIfTI, NRRD, MHA and 2D PNG and TIFF, all through SimpleITK.

Only this module knows ITK's axis order (x, y, z); everything else sees (c, z, y, x) and spacing (z, y, x).
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from bts_auto.data import checks, nifti
from bts_auto.data.volume import Geometry, Volume
from bts_auto.errors import DataError
from bts_auto.files import atomic_path, read_json

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".gipl", ".gipl.gz", ".png", ".tif", ".tiff")
# Photograph formats: no place in the patient, colours in one file.
NATURAL = (".png", ".tif", ".tiff")
# nnU-Net's rule for the axis that a 2D image lacks: so thick that no rule of the planner resamples or pools along it.
_FAKE_THICKNESS = 999.0


def suffix_of(path: Path | str) -> str:
    """The suffix of an image file, in lower case (".nii.gz" is one).

    Raises
    ------
    DataError
        When no reader knows it.
    """
    name = Path(path).name.lower()
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return suffix
    raise DataError("unknown image format", where=path, mend=f"known are {' '.join(SUFFIXES)}")


def read_image(path: Path | str) -> tuple[np.ndarray, Geometry]:
    """Read a file as it is.

    Returns
    -------
    array : ndarray, shape (c, z, y, x)
        In the file's own number type.
    geometry : Geometry

    Raises
    ------
    DataError
        When the file is missing, empty, damaged or of no known format.
    """
    path = Path(path)
    suffix = suffix_of(path)
    if not path.is_file():
        raise DataError("no such file", where=path)
    if path.stat().st_size == 0:
        raise DataError("is empty (0 bytes)", where=path)
    try:
        image = _itk_read(path)
    except RuntimeError as error:
        skewed = nifti.read_skewed(path) if suffix in nifti.SUFFIXES else None
        if skewed is None:
            raise DataError(f"cannot be read ({_last_line(error)})", where=path) from None
        return skewed[0][None], skewed[1]
    array, geometry = _channels_first(image, path)
    if suffix in nifti.SUFFIXES:
        array = nifti.checked(path, array)
    if suffix in NATURAL:
        geometry = _natural_geometry(geometry, path)
    return array, geometry


def count_channels(path: Path | str) -> int:
    """How many channels a file has, by its header: the length of a fourth axis, or numbers per voxel; 0: no image."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with _silent_itk():
            reader.ReadImageInformation()
    except RuntimeError:
        return 0
    return int(reader.GetSize()[3]) if reader.GetDimension() == 4 else int(reader.GetNumberOfComponents())


def read_channels(
    paths: Sequence[Path], channels: tuple[str, ...], *, nan_to_zero: bool = False
) -> tuple[list[np.ndarray], Geometry]:
    """Read one case's channels, each in its file's own number type, with the checks of :func:`read_volume`.

    Returns
    -------
    images : list of ndarray, each of shape (z, y, x)
    geometry : Geometry
    """
    checks.distinct(paths)
    images: list[np.ndarray] = []
    geometry: Geometry | None = None
    for path in map(Path, paths):
        array, own = read_image(path)
        geometry = geometry or own
        checks.same_grid(own, path, geometry, Path(paths[0]))
        colours = suffix_of(path) in NATURAL
        images.extend(checks.voxels(array, path, nan_to_zero=nan_to_zero, colours=colours))
    checks.channel_count(len(images), channels, paths[0] if paths else None)
    if geometry is None:
        raise DataError("a case without files")
    return images, geometry


def read_volume(paths: Sequence[Path], channels: tuple[str, ...], *, nan_to_zero: bool = False) -> Volume:
    """Read one case.

    Parameters
    ----------
    paths : sequence of Path
        One file for each channel; one file may hold several (an RGB image, a 4D file).
    channels : tuple of str
        Their names; what the files hold must be as many.
    nan_to_zero : bool
        Put 0 where voxels are NaN or infinite instead of refusing them.

    Raises
    ------
    DataError
        When a file is missing, damaged, all zero or holds NaN, or when the files do not lie on one grid.
    """
    images, geometry = read_channels(paths, channels, nan_to_zero=nan_to_zero)
    array = np.empty((len(images), *geometry.size), dtype=np.float32)
    for number, image in enumerate(images):
        array[number] = image
    return Volume(array, geometry, tuple(channels))


def read_mask(path: Path | str) -> tuple[np.ndarray, Geometry]:
    """Read a label map.

    Returns
    -------
    mask : ndarray of an integer type, shape (z, y, x)
    geometry : Geometry

    Raises
    ------
    DataError
        When the file is missing or damaged, has several channels, or holds numbers that are not integers.
    """
    path = Path(path)
    array, geometry = read_image(path)
    if len(array) > 1:
        if any(not np.array_equal(array[0], other) for other in array[1:3]):
            raise DataError(
                f"a label map with {len(array)} channels",
                where=path,
                mend="save a colour image as greyscale; probabilities are no label map",
            )
        array = array[:1]
    mask = array[0]
    if mask.dtype.kind == "f":
        whole = np.rint(checks.finite(mask, path))
        if not np.array_equal(whole, mask):
            example = float(mask[whole != mask][0])
            raise DataError(
                f"label values are not integers ({example:g} is one)",
                where=path,
                mend="probabilities are no label map; give masks",
            )
        mask = whole.astype(np.int32)
    return mask, geometry


def write_mask(path: Path | str, array: np.ndarray, geometry: Geometry) -> None:
    """Write a label map atomically, in the format of the suffix, with exactly `geometry`.

    Parameters
    ----------
    path : Path
    array : ndarray of int, shape (z, y, x)
        Stored in the smallest of uint8, uint16, int16 and int32 that holds it.
    geometry : Geometry
    """
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    kinds = (np.uint8, np.uint16, np.int16, np.int32)
    kind = next(kind for kind in kinds if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    write_image(path, array.astype(kind, copy=False), geometry)


def write_map(path: Path | str, array: np.ndarray, geometry: Geometry) -> None:
    """Write floats per voxel (z, y, x) as float32, atomically, with exactly `geometry`.

    Raises
    ------
    DataError
        When the format of the suffix cannot hold them.
    """
    if suffix_of(path) == ".png":
        raise DataError("this format holds no floats", where=path, mend="use .nii.gz, .nrrd, .mha or .tif")
    write_image(path, array.astype(np.float32, copy=False), geometry)


def write_image(path: Path | str, array: np.ndarray, geometry: Geometry) -> None:
    """Write `array` (z, y, x) in its own number type, atomically, in the format of the suffix, with exactly `geometry`.

    Raises
    ------
    DataError
        When the format cannot hold it.
    """
    path = Path(path)
    suffix = suffix_of(path)
    if array.shape != tuple(geometry.size):
        raise ValueError(f"array of shape {array.shape} for a grid of size {geometry.size}")
    natural = suffix in NATURAL
    if suffix == ".png" and geometry.size[0] != 1:
        raise DataError("this format holds one slice only", where=path, mend="use .nii.gz, .nrrd or .mha")
    planar = geometry.planar or (natural and geometry.size[0] == 1)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array[0] if planar else array))
    if not natural:
        axes = 2 if planar else 3
        image.SetSpacing(geometry.spacing[::-1][:axes])
        image.SetOrigin(geometry.origin[:axes])
        direction = np.array(geometry.direction).reshape(3, 3)[:axes, :axes]
        image.SetDirection([float(v) for v in direction.ravel()])
    if suffix == ".mhd":
        _write_with_header_apart(image, path)
        return
    with atomic_path(path) as temporary:
        _itk_write(image, temporary, path)
        if suffix in nifti.SUFFIXES:
            if not nifti.is_whole(temporary, array.nbytes):
                raise DataError("cannot be written whole", where=path, mend="is the disk full?")
            if geometry.affine is not None:
                nifti.restore_affine(temporary, geometry.affine)


def _itk_write(image: sitk.Image, to: Path, path: Path) -> None:
    try:
        sitk.WriteImage(image, str(to), useCompression=True)
    except RuntimeError as error:
        raise DataError(f"cannot be written ({_last_line(error)})", where=path) from None


def _write_with_header_apart(image: sitk.Image, path: Path) -> None:
    """Write a header and the file with the voxels that it names; the header last, so that what it names is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=path.parent) as folder:
        header = Path(folder) / path.name
        _itk_write(image, header, path)
        for voxels in sorted(Path(folder).iterdir()):
            if voxels != header:
                voxels.replace(path.with_name(voxels.name))
        header.replace(path)


def _itk_read(path: Path) -> sitk.Image:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with _silent_itk():
        return reader.Execute()


@contextlib.contextmanager
def _silent_itk() -> Iterator[None]:
    """Keep ITK from writing about headers to stderr, where that breaks progress bars; its errors are raised anyway."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def _last_line(error: Exception) -> str:
    """ITK's own words without its source files and addresses."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if "ERROR" in line), lines[-1] if lines else "no reason given")
    told = re.sub(r"\w+\(0x[0-9a-f]+\): ", "", told.split("ERROR:")[-1].strip())
    return "no image of this format, or damaged" if told.startswith("Unable to determine ImageIO") else told


def _channels_first(image: sitk.Image, path: Path) -> tuple[np.ndarray, Geometry]:
    array = sitk.GetArrayFromImage(image)
    dims = image.GetDimension()
    if array.dtype.kind == "c":
        raise DataError("holds complex numbers", where=path, mend="save the magnitude")
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = np.moveaxis(array, -1, 0)
    elif dims < 4:
        array = array[None]
    spacing = tuple(float(s) for s in image.GetSpacing()[:3])
    origin = tuple(float(o) for o in image.GetOrigin()[:3])
    full = np.array(image.GetDirection(), dtype=float).reshape(dims, dims)
    if dims not in (2, 3, 4) or array.ndim != (3 if dims == 2 else 4):
        components = image.GetNumberOfComponentsPerPixel()
        raise DataError(f"an image with {dims} axes and {components} numbers per voxel cannot be used", where=path)
    if dims == 2:
        array = array[:, None]
        direction = np.eye(3)
        direction[:2, :2] = full
        geometry = Geometry(
            size=(1, array.shape[2], array.shape[3]),
            spacing=(_FAKE_THICKNESS * max(spacing), spacing[1], spacing[0]),
            origin=(origin[0], origin[1], 0.0),
            direction=tuple(float(v) for v in direction.ravel()),
            planar=True,
        )
        return array, geometry
    geometry = Geometry(
        size=(array.shape[1], array.shape[2], array.shape[3]),
        spacing=(spacing[2], spacing[1], spacing[0]),
        origin=(origin[0], origin[1], origin[2]),
        direction=tuple(float(v) for v in full[:3, :3].ravel()),
    )
    return array, geometry


def _natural_geometry(geometry: Geometry, path: Path) -> Geometry:
    """The grid of a photograph: printers' resolutions say nothing about the patient, so that pixels count as 1 mm.

    A TIFF stack takes its spacing from a JSON file beside it, as nnU-Net's does: ``CASE.json`` for ``CASE_0000.tif``.
    """
    spacing = (1.0, 1.0, 1.0)
    if geometry.planar:
        return Geometry(geometry.size, (_FAKE_THICKNESS, 1.0, 1.0), planar=True)
    stem = path.name[: -len(suffix_of(path))]
    for name in (stem, stem[:-5]):
        beside = path.with_name(f"{name}.json")
        if name and beside.is_file():
            values = read_json(beside).get("spacing", ())
            if len(values) != 3:
                raise DataError("'spacing' must be three numbers, z first", where=beside)
            spacing = (float(values[0]), float(values[1]), float(values[2]))
            break
    return Geometry(geometry.size, spacing)

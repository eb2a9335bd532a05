"""What ITK leaves undone with NIfTI files: noticing damaged ones, and reading those whose axes are not orthogonal.

ITK fills the missing end of a truncated or damaged file with zeros and NaN with 0, and says nothing; so size, checksum
and values are compared here. A matrix that is not orthonormal makes ITK refuse a file; such a file is decoded here.

References
----------
NIfTI-1 and NIfTI-2 headers: https://nifti.nimh.nih.gov (nifti1.h, nifti2.h). Gzip trailer: RFC 1952, section 2.3.1.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np

from bts_auto.data.volume import Geometry
from bts_auto.errors import DataError

SUFFIXES = (".nii", ".nii.gz")
_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_HEADER_BYTES = {348: 1, 540: 2}  # the first integer of the header says which version it is
_GZIP_TRAILER = 8


@dataclass(frozen=True)
class Header:
    """The fields of a NIfTI header that matter here."""

    order: str
    shape: tuple[int, ...]
    type_code: int
    bytes_per_voxel: int
    offset: int
    slope: float
    intercept: float
    sform_code: int
    sform: np.ndarray
    sform_at: int

    @property
    def is_scaled(self) -> bool:
        """Whether voxels are to be multiplied and shifted; a slope of 0 means that they are not."""
        usable = np.isfinite([self.slope, self.intercept]).all() and self.slope != 0
        return bool(usable and (self.slope, self.intercept) != (1.0, 0.0))

    @property
    def data_bytes(self) -> int:
        """Length of the voxels in the file."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.bytes_per_voxel


def is_nifti(path: Path) -> bool:
    """Whether the name says that the file is NIfTI."""
    return path.name.lower().endswith(SUFFIXES)


def _opened(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if _is_compressed(path) else path.open("rb")


def read_header(path: Path) -> Header:
    """Read the header of a NIfTI-1 or NIfTI-2 file.

    Raises
    ------
    DataError
        When the file is not NIfTI, or ends within the header.
    """
    try:
        with _opened(path) as file:
            raw = file.read(544)
    except (OSError, EOFError, zlib.error):
        raise DataError("is damaged: its first bytes cannot be decompressed", where=path) from None
    for order in "<>":
        version = _HEADER_BYTES.get(struct.unpack_from(order + "i", raw)[0]) if len(raw) >= 348 else None
        if version == 1 and raw[344:347] in (b"n+1", b"ni1"):
            return _version_1(raw, order)
        if version == 2 and len(raw) >= 540 and raw[4:7] in (b"n+2", b"ni2"):
            return _version_2(raw, order)
    raise DataError("is not a NIfTI file", where=path)


def _version_1(raw: bytes, order: str) -> Header:
    dims = struct.unpack_from(order + "8h", raw, 40)
    code, bits = struct.unpack_from(order + "2h", raw, 70)
    offset, slope, intercept = struct.unpack_from(order + "3f", raw, 108)
    sform = np.array(struct.unpack_from(order + "12f", raw, 280)).reshape(3, 4)
    sform_code = struct.unpack_from(order + "h", raw, 254)[0]
    shape = dims[1 : 1 + max(dims[0], 0)]
    return Header(order, shape, code, bits // 8, int(offset), slope, intercept, sform_code, sform, 280)


def _version_2(raw: bytes, order: str) -> Header:
    code, bits = struct.unpack_from(order + "2h", raw, 12)
    dims = struct.unpack_from(order + "8q", raw, 16)
    offset, slope, intercept = struct.unpack_from(order + "q2d", raw, 168)
    sform_code = struct.unpack_from(order + "i", raw, 348)[0]
    sform = np.array(struct.unpack_from(order + "12d", raw, 400)).reshape(3, 4)
    shape = dims[1 : 1 + max(dims[0], 0)]
    return Header(order, shape, code, bits // 8, offset, slope, intercept, sform_code, sform, 400)


def checked(path: Path, pixels: np.ndarray) -> np.ndarray:
    """What ITK read, once it is sure that this is what the file holds.

    Where ITK's array is the very bytes of the file, gzip's checksum is computed from it, which saves a second
    decompression. Else the file is decoded here too; NaN and infinity, which ITK's NIfTI reader turns into 0, are put
    back.

    Parameters
    ----------
    path : Path
    pixels : ndarray, shape (c, z, y, x)

    Returns
    -------
    ndarray
        `pixels`, or what it should have been.

    Raises
    ------
    DataError
        When voxels are missing or the checksum differs.
    """
    header = read_header(path)
    if _is_compressed(path) and _same_bytes(header, pixels) and _checksum_fits(path, header, pixels):
        return pixels
    own = decode(path, header)
    if own.dtype.kind == "f" and own.size == pixels.size and not np.isfinite(own).all():
        return own.reshape(pixels.shape)
    return pixels


def _is_compressed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _same_bytes(header: Header, pixels: np.ndarray) -> bool:
    """Whether ITK's array is the file's own bytes: same type, little endian, not rescaled."""
    own = np.dtype(header.order + _TYPES.get(header.type_code, "V1"))
    return not header.is_scaled and pixels.dtype == own and pixels.nbytes == header.data_bytes


def _checksum_fits(path: Path, header: Header, pixels: np.ndarray) -> bool:
    with path.open("rb") as file:
        file.seek(-_GZIP_TRAILER, 2)
        checksum, length = struct.unpack("<2I", file.read(_GZIP_TRAILER))
    if length != (header.offset + header.data_bytes) % 2**32:
        return False
    with gzip.open(path) as opened:
        start = zlib.crc32(opened.read(header.offset))
    return zlib.crc32(np.ascontiguousarray(pixels).data, start) == checksum


def decode(path: Path, header: Header) -> np.ndarray:
    """Decode a file without ITK, to its end, which lets gzip check lengths and checksums.

    Returns
    -------
    ndarray, shape (..., z, y, x)
        Rescaled as the header says; in the file's own type where it says nothing. Types of several numbers per voxel
        come as bytes.

    Raises
    ------
    DataError
        When voxels are missing or damaged.
    """
    expected = header.offset + header.data_bytes
    try:
        with _opened(path) as file:
            raw = file.read()
    except EOFError:
        raise _truncated(path, expected) from None
    except (OSError, zlib.error) as error:
        raise DataError(f"is damaged ({error})", where=path, mend="copy it again") from None
    if len(raw) < expected:
        raise _truncated(path, expected)
    if header.type_code not in _TYPES:
        return np.frombuffer(raw, np.uint8, header.data_bytes, header.offset)
    kind = np.dtype(header.order + _TYPES[header.type_code])
    array = np.frombuffer(raw, kind, header.data_bytes // kind.itemsize, header.offset).reshape(header.shape[::-1])
    array = array.astype(kind.newbyteorder("="), copy=False)
    return array * header.slope + header.intercept if header.is_scaled else array


def _truncated(path: Path, expected: int) -> DataError:
    return DataError(f"is truncated: its header promises {expected} bytes", where=path, mend="copy it again")


def read_skewed(path: Path) -> tuple[np.ndarray, Geometry] | None:
    """Decode a 3D file that ITK refuses because its sform is not orthonormal; None where it has no sform.

    The direction is the orthonormal matrix nearest to the header's (polar decomposition), the spacing the length of
    the header's columns; the header's own matrix travels as `Geometry.affine`.

    Returns
    -------
    array : ndarray, shape (z, y, x), or None
    geometry : Geometry

    Raises
    ------
    DataError
        When the matrix puts all voxels into one plane, or the file is damaged.
    """
    header = read_header(path)
    shape = header.shape[:3] if all(n == 1 for n in header.shape[3:]) else header.shape
    if header.sform_code <= 0 or header.type_code not in _TYPES or len(shape) != 3:
        return None
    if not np.isfinite(header.sform).all() or abs(np.linalg.det(header.sform[:, :3])) < 1e-9:
        raise DataError("its header's sform matrix is singular, so that voxels have no place", where=path)
    lps = np.diag([-1.0, -1.0, 1.0]) @ header.sform
    spacing = np.linalg.norm(lps[:, :3], axis=0)
    left, _, right = np.linalg.svd(lps[:, :3] / spacing)
    array = decode(path, header).reshape(shape[::-1])
    geometry = Geometry(
        size=(shape[2], shape[1], shape[0]),
        spacing=(float(spacing[2]), float(spacing[1]), float(spacing[0])),
        origin=(float(lps[0, 3]), float(lps[1, 3]), float(lps[2, 3])),
        direction=tuple(float(v) for v in (left @ right).ravel()),
        affine=tuple(float(v) for v in header.sform.ravel()),
    )
    return array, geometry


def is_whole(path: Path, data_bytes: int) -> bool:
    """Whether a file that ITK has written holds all its voxels: where the disk is full, ITK stops and says nothing."""
    try:
        expected = read_header(path).offset + data_bytes
        if not _is_compressed(path):
            return path.stat().st_size == expected
        with path.open("rb") as file:
            file.seek(-_GZIP_TRAILER, 2)
            return struct.unpack("<2I", file.read(_GZIP_TRAILER))[1] == expected % 2**32
    except (DataError, OSError):
        return False


def restore_affine(path: Path, affine: tuple[float, ...]) -> None:
    """Put `affine` (12 values, RAS) into the sform of a NIfTI file that ITK has written; qform is switched off."""
    header = read_header(path)
    compressed = path.name.lower().endswith(".gz")
    read: Callable[[bytes], bytes] = gzip.decompress if compressed else bytes
    raw = bytearray(read(path.read_bytes()))
    struct.pack_into(f"{header.order}2h", raw, 252, 0, 2)
    struct.pack_into(f"{header.order}12f", raw, header.sform_at, *affine)
    path.write_bytes(gzip.compress(bytes(raw), 6) if compressed else bytes(raw))

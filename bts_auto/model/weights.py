"""Weights on disk: safetensors, with everything else that belongs to them as JSON in the file's header."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save, save_file
from torch import Tensor

from bts_auto.errors import ModelError
from bts_auto.files import atomic_path

_METADATA = "bts_auto"
_HEADER_LENGTH = 8  # bytes of the little-endian length with which a safetensors file begins
_MAX_HEADER = 100_000_000  # the format's own limit


def save_weights(path: Path | str, state: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None) -> None:
    """Write tensors and JSON metadata to a safetensors file, atomically.

    Parameters
    ----------
    path : Path
    state : mapping of str to Tensor
        On any device, of any layout; stored as they are, contiguous.
    metadata : mapping, optional
        Anything that JSON can hold.
    """
    with atomic_path(path) as temporary:
        save_file(_storable(state), temporary, metadata=_encode(metadata))


def serialise(state: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None) -> bytes:
    """The bytes that :func:`save_weights` writes."""
    return save(_storable(state), metadata=_encode(metadata))


def load_weights(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_weights` wrote.

    Raises
    ------
    ModelError
        When the file is missing, truncated or not ours.
    """
    metadata = read_metadata(path)
    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise ModelError(f"cannot be read as weights ({error})", where=path) from None


def read_metadata(path: Path | str) -> dict[str, Any]:
    """Read the JSON metadata alone.

    Raises
    ------
    ModelError
        When the file is missing, truncated or not ours.
    """
    if not Path(path).is_file():
        raise ModelError("no such file", where=path)
    try:
        with safe_open(str(path), framework="pt") as file:
            return _decode(file.metadata(), path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"cannot be read as weights ({error})", where=path) from None


def parse_weights(data: bytes, where: object) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the bytes of a safetensors file.

    Raises
    ------
    ModelError
        When they are truncated or not ours; `where` is named.
    """
    try:
        state = load(data)
    except SafetensorError as error:
        raise ModelError(f"cannot be read as weights ({error})", where=where) from None
    return state, parse_metadata(io.BytesIO(data), where)


def parse_metadata(file: IO[bytes], where: object) -> dict[str, Any]:
    """Read the JSON metadata from the beginning of a safetensors file.

    Raises
    ------
    ModelError
        When it is truncated or not ours; `where` is named.
    """
    length = int.from_bytes(file.read(_HEADER_LENGTH), "little")
    try:
        header = json.loads(file.read(min(length, _MAX_HEADER)))
    except ValueError:
        raise ModelError("cannot be read as weights (its header is damaged)", where=where) from None
    return _decode(header.get("__metadata__") if isinstance(header, dict) else None, where)


def as_precision(state: Mapping[str, Tensor], precision: torch.dtype) -> dict[str, Tensor]:
    """The state with its floating-point tensors in `precision`; integers stay as they are."""
    return {name: tensor.to(precision) if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def _encode(metadata: Mapping[str, Any] | None) -> dict[str, str]:
    return {_METADATA: json.dumps(dict(metadata or {}), allow_nan=False)}


def _decode(header: Mapping[str, str] | None, where: object) -> dict[str, Any]:
    if not header or _METADATA not in header:
        raise ModelError("is not a checkpoint of this program", where=where)
    try:
        return json.loads(header[_METADATA])
    except json.JSONDecodeError:
        raise ModelError("has damaged metadata", where=where) from None


def _storable(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors on the CPU, each in its own memory; tied weights are stored as often as they occur."""
    seen: set[int] = set()
    alone = {}
    for name, given in state.items():
        tensor = given.detach().cpu().contiguous()
        address = tensor.untyped_storage().data_ptr()
        alone[name] = tensor.clone() if address in seen and tensor.numel() else tensor
        seen.add(address)
    return alone

"""Weights on disk: safetensors, with everything else that belongs to them as JSON in the file's header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save_file
from torch import Tensor

from bts_auto.errors import ModelError
from bts_auto.files import atomic_path

_METADATA = "bts_auto"
_HEADER_LENGTH = 8  # bytes of the little-endian length with which a safetensors file begins


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
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    header = {_METADATA: json.dumps(dict(metadata or {}), allow_nan=False)}
    with atomic_path(path) as temporary:
        save_file(_without_sharing(tensors), temporary, metadata=header)


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
    length = int.from_bytes(data[:_HEADER_LENGTH], "little")
    header = json.loads(data[_HEADER_LENGTH : _HEADER_LENGTH + length])
    return state, _decode(header.get("__metadata__"), where)


def as_precision(state: Mapping[str, Tensor], precision: torch.dtype) -> dict[str, Tensor]:
    """The state with its floating-point tensors in `precision`; integers stay as they are."""
    return {name: tensor.to(precision) if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def _decode(header: Mapping[str, str] | None, where: object) -> dict[str, Any]:
    if not header or _METADATA not in header:
        raise ModelError("is not a checkpoint of this program", where=where)
    try:
        return json.loads(header[_METADATA])
    except json.JSONDecodeError:
        raise ModelError("has damaged metadata", where=where) from None


def _without_sharing(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give every tensor its own memory, which the format asks for; tied weights are stored as often as they occur."""
    seen: set[int] = set()
    alone = {}
    for name, tensor in tensors.items():
        address = tensor.untyped_storage().data_ptr()
        alone[name] = tensor.clone() if address in seen and tensor.numel() else tensor
        seen.add(address)
    return alone

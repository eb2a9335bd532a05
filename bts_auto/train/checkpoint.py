"""Training states on disk: everything that a resumed run needs to give the same numbers as one that was never stopped.

A state is one safetensors file whose header carries the JSON record, because two files cannot be renamed at once. The
one before it is kept as well: should the newest be damaged, the run goes on from there.

Random numbers need no place in it: every draw, the network's own included, is seeded by (seed, step, index).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from bts_auto.errors import ModelError
from bts_auto.events import SILENT, Observer
from bts_auto.files import atomic_path

STATE = "training_state.safetensors"
PREVIOUS_STATE = "training_state.previous.safetensors"
_VERSION = "1"


@dataclass(frozen=True)
class State:
    """A training state: named tensors and a JSON record."""

    tensors: dict[str, Tensor]
    record: dict[str, Any]


def _digest(tensors: Mapping[str, Tensor], record: str) -> str:
    """SHA-256 over the record and all tensors in the order of their names."""
    digest = hashlib.sha256(record.encode("utf-8"))
    for name in sorted(tensors):
        digest.update(name.encode("utf-8"))
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_state(folder: Path, state: State) -> None:
    """Write `state` as the newest generation and keep the one before it. At every moment one of them is whole."""
    record = json.dumps(state.record, allow_nan=False)
    metadata = {"version": _VERSION, "record": record, "sha256": _digest(state.tensors, record)}
    newest, previous = folder / STATE, folder / PREVIOUS_STATE
    with atomic_path(newest) as temporary:
        save_file(state.tensors, temporary, metadata=metadata)
        if newest.exists():
            previous.unlink(missing_ok=True)
            try:
                os.link(newest, previous)
            except OSError:  # a file system without hard links
                newest.replace(previous)


def _read(path: Path) -> State:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise ModelError(f"is damaged ({error})", where=path) from None
    if metadata.get("version") != _VERSION:
        raise ModelError(
            f"is of version {metadata.get('version')}, this program reads version {_VERSION}",
            where=path,
            mend="finish the training with the program that began it, or start over with --restart",
        )
    if metadata.get("sha256") != _digest(tensors, metadata["record"]):
        raise ModelError("is damaged (its checksum does not fit)", where=path)
    return State(tensors, json.loads(metadata["record"]))


def load_state(folder: Path, observer: Observer = SILENT) -> State | None:
    """The newest state that is whole, or None where there is none.

    Raises
    ------
    ModelError
        When states are there but none can be used.
    """
    problems = []
    for name in (STATE, PREVIOUS_STATE):
        path = folder / name
        if not path.exists():
            continue
        try:
            state = _read(path)
        except ModelError as error:
            problems.append(error)
            continue
        for problem in problems:
            observer.warn(f"{problem}; going on from the state before it")
        return state
    if problems:
        raise problems[0]
    return None


def remove_states(folder: Path) -> None:
    """Remove all generations."""
    for name in (STATE, PREVIOUS_STATE):
        (folder / name).unlink(missing_ok=True)


def _own(tensor: Tensor, seen: set[int]) -> Tensor:
    """The tensor as it can be saved: on the CPU, contiguous, sharing its memory with no other."""
    saved = tensor.detach().cpu().contiguous()
    if saved.data_ptr() in seen:
        saved = saved.clone()
    seen.add(saved.data_ptr())
    return saved


def pack(
    modules: Mapping[str, nn.Module],
    optimizers: Mapping[str, torch.optim.Optimizer],
    extra: Mapping[str, Tensor],
    record: dict[str, Any],
) -> State:
    """Gather weights, optimiser states and further tensors into a state. Tensors are shared, not copied."""
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, module in modules.items():
        for key, tensor in module.state_dict().items():
            tensors[f"module.{name}.{key}"] = _own(tensor, seen)
    groups: dict[str, Any] = {}
    for name, optimizer in optimizers.items():
        content = optimizer.state_dict()
        groups[name] = content["param_groups"]
        for index, values in content["state"].items():
            for key, value in values.items():
                if value is not None:
                    tensors[f"optimizer.{name}.{index}.{key}"] = _own(torch.as_tensor(value), seen)
    for name, tensor in extra.items():
        tensors[f"extra.{name}"] = _own(tensor, seen)
    return State(tensors, {**record, "param_groups": groups})


def unpack(
    state: State, modules: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer]
) -> dict[str, Tensor]:
    """Put a state's weights and optimiser states in place; gives back the further tensors.

    Raises
    ------
    ModelError
        When the state belongs to another network.
    """
    for name, module in modules.items():
        weights = _below(state.tensors, f"module.{name}.")
        try:
            module.load_state_dict(weights)
        except RuntimeError as error:
            raise ModelError(f"the saved training state belongs to another network ({error})") from None
    for name, optimizer in optimizers.items():
        values: dict[int, dict[str, Tensor]] = {}
        for key, tensor in _below(state.tensors, f"optimizer.{name}.").items():
            index, field = key.split(".", 1)
            values.setdefault(int(index), {})[field] = tensor
        groups = [dict(group) for group in state.record["param_groups"][name]]
        optimizer.load_state_dict({"state": values, "param_groups": groups})
    return _below(state.tensors, "extra.")


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def discard_leftovers(folder: Path) -> None:
    """Remove temporary files of saves that were killed."""
    for path in folder.glob(".writing-*"):
        with contextlib.suppress(OSError):
            path.unlink()

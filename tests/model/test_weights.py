"""Weights on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bts_auto.errors import ModelError
from bts_auto.model.weights import as_precision, load_weights, parse_weights, read_metadata, save_weights, serialise

METADATA = {"fold": 3, "dataset": {"labels": {"background": 0, "region": [1, 2]}}}


def state() -> dict[str, torch.Tensor]:
    shared = torch.arange(6.0)
    return {
        "float": shared.reshape(2, 3),
        "tied": shared.reshape(2, 3),
        "transposed": torch.arange(6.0).reshape(2, 3).T,
        "half": torch.ones(2, dtype=torch.float16),
        "count": torch.tensor(7),
        "parameter": torch.nn.Parameter(torch.ones(3)),
    }


def test_tensors_and_metadata_come_back(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", state(), METADATA)
    loaded, metadata = load_weights(tmp_path / "w.safetensors")
    assert metadata == METADATA
    assert loaded.keys() == state().keys()
    for name, tensor in state().items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor.detach())


def test_metadata_alone(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", state(), METADATA)
    assert read_metadata(tmp_path / "w.safetensors") == METADATA


def test_bytes_are_those_of_the_file(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", state(), METADATA)
    data = serialise(state(), METADATA)
    assert data == (tmp_path / "w.safetensors").read_bytes()
    assert parse_weights(data, "bytes")[1] == METADATA


def test_only_floats_change_precision() -> None:
    kinds = {tensor.dtype for tensor in as_precision(state(), torch.float32).values()}
    assert kinds == {torch.float32, torch.int64}


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, state(), METADATA)
    with pytest.raises(TypeError):
        save_weights(path, state(), {"not JSON": object()})
    assert load_weights(path)[1] == METADATA
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: int) -> None:
    data = serialise(state(), METADATA)[:keep]
    (tmp_path / "w.safetensors").write_bytes(data)
    for read in (load_weights, read_metadata):
        with pytest.raises(ModelError, match=r"w\.safetensors: cannot be read as weights"):
            read(tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="cannot be read as weights"):
        parse_weights(data, "bytes")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        load_weights(tmp_path / "none.safetensors")


def test_another_programs_file_is_refused(tmp_path: Path) -> None:
    save_file({"w": torch.ones(1)}, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="not a checkpoint of this program"):
        load_weights(tmp_path / "w.safetensors")

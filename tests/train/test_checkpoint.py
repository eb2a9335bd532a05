"""Training states: whole or not there, two generations, nothing lost on the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from bts_auto.errors import ModelError
from bts_auto.events import Observer
from bts_auto.train import checkpoint
from bts_auto.train.checkpoint import PREVIOUS_STATE, STATE, State, load_state, pack, save_state, unpack


class Heard(Observer):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def state(number: int) -> State:
    return State({"a": torch.full((3,), float(number)), "b": torch.tensor(number)}, {"number": number, "x": 0.1})


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save_state(tmp_path, state(1))
    loaded = load_state(tmp_path)
    assert loaded is not None
    assert loaded.record == {"number": 1, "x": 0.1}
    assert torch.equal(loaded.tensors["a"], state(1).tensors["a"])
    assert torch.equal(loaded.tensors["b"], state(1).tensors["b"])


def test_nothing_saved_is_nothing(tmp_path: Path) -> None:
    assert load_state(tmp_path) is None


def damage_tail(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def damage_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def damage_all(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [damage_tail, damage_bit, damage_all])
def test_the_state_before_a_damaged_one_is_used(tmp_path: Path, damage) -> None:
    save_state(tmp_path, state(1))
    save_state(tmp_path, state(2))
    damage(tmp_path / STATE)
    observer = Heard()
    loaded = load_state(tmp_path, observer)
    assert loaded is not None
    assert loaded.record["number"] == 1
    assert STATE in observer.warnings[0]


def test_a_save_between_its_two_renames_leaves_a_state(tmp_path: Path) -> None:
    save_state(tmp_path, state(1))
    (tmp_path / STATE).rename(tmp_path / PREVIOUS_STATE)
    loaded = load_state(tmp_path)
    assert loaded is not None
    assert loaded.record["number"] == 1


def test_two_damaged_states_are_an_error(tmp_path: Path) -> None:
    save_state(tmp_path, state(1))
    save_state(tmp_path, state(2))
    damage_bit(tmp_path / STATE)
    damage_bit(tmp_path / PREVIOUS_STATE)
    with pytest.raises(ModelError, match="damaged"):
        load_state(tmp_path)


def test_without_hard_links_there_are_two_generations_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths) -> None:
        raise OSError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    for number in (1, 2, 3):
        save_state(tmp_path, state(number))
    damage_bit(tmp_path / STATE)
    loaded = load_state(tmp_path)
    assert loaded is not None
    assert loaded.record["number"] == 2


def test_a_failing_save_keeps_the_states_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path, state(1))
    monkeypatch.setattr(checkpoint, "save_file", lambda *args, **kwargs: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_state(tmp_path, state(2))
    assert [path.name for path in tmp_path.iterdir()] == [STATE]


def test_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_VERSION", "0")
    save_state(tmp_path, state(1))
    monkeypatch.undo()
    with pytest.raises(ModelError, match="version 0"):
        load_state(tmp_path)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_weights_and_optimiser_go_through_it_bit_for_bit(tmp_path: Path, kind) -> None:
    def make():
        network = torch.nn.Linear(3, 2)
        options = {"momentum": 0.9} if kind is torch.optim.SGD else {}
        return network, kind(network.parameters(), lr=0.1, **options)

    def step(network, optimizer) -> None:
        optimizer.zero_grad()
        network(torch.arange(3.0)).square().sum().backward()
        optimizer.step()

    one, other = make(), make()
    step(*one)
    save_state(tmp_path, pack({"n": one[0]}, {"o": one[1]}, {"more": torch.ones(2)}, {}))
    loaded = load_state(tmp_path)
    assert loaded is not None
    assert torch.equal(unpack(loaded, {"n": other[0]}, {"o": other[1]})["more"], torch.ones(2))
    step(*one)
    step(*other)
    assert torch.equal(one[0].weight, other[0].weight)


def test_a_state_of_another_network_is_refused(tmp_path: Path) -> None:
    packed = pack({"n": torch.nn.Linear(3, 2)}, {}, {}, {})
    with pytest.raises(ModelError, match="another network"):
        unpack(packed, {"n": torch.nn.Linear(4, 2)}, {})


def test_tensors_that_share_memory_are_saved(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    network[1].weight = network[0].weight
    save_state(tmp_path, pack({"n": network}, {}, {}, {}))
    loaded = load_state(tmp_path)
    assert loaded is not None
    assert torch.equal(loaded.tensors["module.n.0.weight"], loaded.tensors["module.n.1.weight"])

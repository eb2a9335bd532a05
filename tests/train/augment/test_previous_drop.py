"""Dropping components of the previous stage's mask."""

from __future__ import annotations

import torch

from bts_auto.train.augment.options import PreviousDropOptions
from bts_auto.train.augment.previous_drop import PreviousDrop

OPTIONS = PreviousDropOptions(labels=(1,))


def components() -> torch.Tensor:
    mask = torch.zeros((2, 1, 10, 10), dtype=torch.int16)
    mask[1, 0, 0, 0:2], mask[1, 0, 5, 5], mask[1, 0, 9, 7:] = 1, 1, 2
    return mask


def drop(place: float, options: PreviousDropOptions = OPTIONS) -> torch.Tensor:
    return PreviousDrop(options).apply(torch.zeros((1, 1, 10, 10)), components(), ((1, place),))[1]


def test_one_component_goes_and_the_rest_stays() -> None:
    first, second = drop(0.0)[1, 0], drop(0.99)[1, 0]
    assert (first[0] == 0).all()
    assert first[5, 5] == 1
    assert second[5, 5] == 0
    assert second[0, :2].tolist() == [1, 1]
    for out in (first, second):
        assert out[9, 7:].tolist() == [2, 2, 2]


def test_large_components_stay() -> None:
    out = drop(0.0, PreviousDropOptions(labels=(1,), largest_share=0.015))
    assert out[1, 0, 0, :2].tolist() == [1, 1]
    assert out[1, 0, 5, 5] == 0


def test_nothing_to_drop_is_no_error() -> None:
    assert torch.equal(drop(0.5, PreviousDropOptions(labels=(1,), largest_share=0.0)), components())

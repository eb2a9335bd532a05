"""Options of the U-Nets."""

from __future__ import annotations

import pytest

from bts_auto import registry
from bts_auto.errors import PlanError
from bts_auto.networks.options import per_stage

STAGES = {"features_per_stage": (4, 8), "kernel_sizes": ((3, 3), (3, 3)), "strides": ((1, 1), (2, 2))}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strides": ((1, 1),)}, "one entry per stage"),
        ({"kernel_sizes": ((3, 3), (3, 3, 3))}, "same number of axes"),
        ({"kernel_sizes": ((3, 2), (3, 3))}, "must be odd"),
        ({"strides": ((1, 1), (0, 2))}, "at least 1"),
        ({"features_per_stage": (4, 0)}, "at least 1"),
        ({"dropout": 1.0}, "less than 1"),
        ({"n_conv_per_stages": 3}, "did you mean 'n_conv_per_stage'"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(change: dict, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        registry.options("network", "plain_unet", STAGES | change)


def test_the_last_entry_repeats() -> None:
    assert per_stage((1, 3, 4, 6), 6, "n") == (1, 3, 4, 6, 6, 6)


def test_further_entries_are_cut() -> None:
    assert per_stage((1, 3, 4, 6), 2, "n") == (1, 3)


def test_one_number_is_every_stages() -> None:
    assert per_stage(2, 3, "n") == (2, 2, 2)


def test_no_block_at_all_is_refused() -> None:
    with pytest.raises(PlanError, match="n_blocks must be at least 1"):
        per_stage((1, 0), 3, "n_blocks")

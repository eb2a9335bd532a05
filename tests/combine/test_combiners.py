"""The contract that every registered combiner keeps."""

from __future__ import annotations

import numpy as np
import pytest

from bts_auto import registry
from bts_auto.combine.combiners import combine
from bts_auto.data.labels import Labels
from bts_auto.errors import PlanError

PLAIN = Labels.from_dataset({"labels": {"background": 0, "necrosis": 1, "edema": 2, "enhancing": 3}})
REGIONS = Labels.from_dataset(
    {
        "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]},
        "regions_class_order": [1, 2, 3],
    }
)
BY_REGION = {
    PLAIN.foreground: {"members": {"necrosis": 0, "edema": 1, "enhancing": 0}},
    REGIONS.foreground: {"members": {"whole": 1, "core": 0, "enhancing": 0}},
}
OPTIONS = {"by_region": BY_REGION, "region_channels": BY_REGION}


def _truth() -> np.ndarray:
    truth = np.zeros((6, 7, 8), np.uint8)
    truth[1:5, 1:6, 1:7] = 1
    truth[2:5, 2:5, 2:6] = 2
    truth[3:4, 3:5, 3:5] = 3
    return truth


def _member(labels: Labels) -> np.ndarray:
    return np.stack([np.isin(_truth(), members) for members in labels.members()]).astype(np.float32)


@pytest.mark.parametrize("labels", [PLAIN, REGIONS], ids=["labels", "regions"])
@pytest.mark.parametrize("name", registry.names("combiner"))
def test_members_that_agree_are_the_answer(name: str, labels: Labels) -> None:
    probabilities = registry.component("combiner", name).uses == "probabilities"
    member = _member(labels) if probabilities else _truth()
    options = OPTIONS.get(name, {}).get(labels.foreground)
    np.testing.assert_array_equal(combine(name, [member] * 3, labels, options), _truth())


def test_each_region_from_its_own_member() -> None:
    first, second = _truth(), np.zeros_like(_truth())
    second[0] = 1
    options = {"members": {"whole": 1, "core": 0, "enhancing": 0}}
    found = combine("by_region", [first, second], REGIONS, options)
    scores = [_member(REGIONS), np.stack([second == 1, *[np.zeros_like(second)] * 2]).astype(np.float32)]
    np.testing.assert_array_equal(combine("region_channels", scores, REGIONS, options), found)
    assert (found[0] == 1).all()
    np.testing.assert_array_equal(found == 3, first == 3)
    assert (found[1:][first[1:] == 1] == 0).all()


@pytest.mark.parametrize("members", [{"whole": 0}, {"whole": 0, "core": 0, "enhancing": 9}])
def test_a_choice_that_does_not_fit_is_refused(members: dict[str, int]) -> None:
    with pytest.raises(PlanError, match="by_region"):
        combine("by_region", [_truth(), _truth()], REGIONS, {"members": members})


def test_an_unknown_combiner_or_option_is_refused() -> None:
    with pytest.raises(PlanError, match="staple"):
        combine("stapel", [_truth()], PLAIN)
    with pytest.raises(PlanError, match="ties"):
        combine("vote", [_truth()], PLAIN, {"tie": "first"})

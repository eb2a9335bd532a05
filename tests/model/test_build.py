"""From a plan to a network."""

from __future__ import annotations

import pytest
import torch

from bts_auto.errors import ModelError
from bts_auto.model.build import build_network, network_with_weights
from tests.model.tiny import NAME, REGIONS, tiny_plan


def test_channels_are_images_and_labels() -> None:
    assert tiny_plan().network_channels(NAME) == (2, 3)


def test_a_second_stage_also_sees_the_first_ones_labels() -> None:
    assert tiny_plan().network_channels("3d_cascade_fullres") == (4, 3)


def test_regions_have_no_background_channel() -> None:
    assert tiny_plan(**REGIONS).network_channels(NAME) == (2, 2)


def test_a_second_stage_of_regions_sees_the_labels_that_the_mask_holds() -> None:
    assert tiny_plan(**REGIONS).previous_stage_labels("3d_cascade_fullres") == (1, 2)


def test_the_ignore_label_is_no_channel() -> None:
    plan = tiny_plan(labels={"background": 0, "edema": 1, "core": 2, "ignore": 3})
    assert plan.network_channels("3d_cascade_fullres") == (4, 3)


def test_weights_are_drawn_from_the_plans_seed() -> None:
    one, other = build_network(tiny_plan(), NAME), build_network(tiny_plan(), NAME, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_building_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    build_network(tiny_plan(), NAME)
    assert torch.equal(before, torch.get_rng_state())


def test_given_weights_are_not_copied() -> None:
    state = build_network(tiny_plan(), NAME).state_dict()
    network = network_with_weights(tiny_plan(), NAME, state)
    assert all(tensor.data_ptr() == state[name].data_ptr() for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("heads.0.bias"), "1 missing, first 'heads.0.bias'"),
        (lambda state: state.update(more=torch.zeros(1)), "1 unknown, first 'more'"),
        (
            lambda state: state.update({"heads.0.bias": torch.zeros(9)}),
            r"'heads.0.bias' has shape \[9\] instead of \[3\]",
        ),
    ],
)
def test_other_weights_are_refused_in_words(change, message: str) -> None:
    state = dict(build_network(tiny_plan(), NAME).state_dict())
    change(state)
    with pytest.raises(ModelError, match=message):
        network_with_weights(tiny_plan(), NAME, state)

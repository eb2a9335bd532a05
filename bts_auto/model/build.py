"""From a plan to a network."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bts_auto import registry
from bts_auto.errors import ModelError
from bts_auto.plan.schema import Plan


def build_network(plan: Plan, configuration_name: str, *, seed: int | None = None) -> nn.Module:
    """Build the network of a configuration on the CPU, in training mode.

    Parameters
    ----------
    plan : Plan
    configuration_name : str
    seed : int, optional
        What the weights are drawn from; None: the seed of the plan's training. Torch's own generator is left alone.

    Raises
    ------
    PlanError
        When the plan has no such configuration or its network cannot be built.
    """
    seed = plan.configuration(configuration_name).training.seed if seed is None else seed
    network = empty_network(plan, configuration_name).to_empty(device="cpu")
    network.initialise(torch.Generator().manual_seed(seed))  # type: ignore[operator]
    return network


def network_with_weights(plan: Plan, configuration_name: str, state: Mapping[str, Tensor]) -> nn.Module:
    """Build the network of a configuration around `state`, whose tensors it takes over without a copy.

    Raises
    ------
    ModelError
        When names or shapes of the weights are not those of the plan's network.
    """
    network = empty_network(plan, configuration_name)
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if problem := _difference(wanted, given):
        raise ModelError(f"the weights do not fit the plan's network: {problem}", where=configuration_name)
    network.load_state_dict(dict(state), assign=True)
    return network


def empty_network(plan: Plan, configuration_name: str) -> nn.Module:
    """The network without memory for its weights."""
    configuration = plan.configuration(configuration_name)
    in_channels, out_channels = plan.network_channels(configuration_name)
    make = registry.component("network", configuration.network.name)
    with torch.device("meta"):
        return make(
            configuration.network_options(), in_channels, out_channels, configuration.dims, configuration.patch_size
        )


def _difference(wanted: Mapping[str, tuple[int, ...]], given: Mapping[str, tuple[int, ...]]) -> str | None:
    """The first thing in which two tables of shapes differ, in words."""
    if missing := sorted(wanted.keys() - given.keys()):
        return f"{len(missing)} missing, first '{missing[0]}'"
    if unknown := sorted(given.keys() - wanted.keys()):
        return f"{len(unknown)} unknown, first '{unknown[0]}'"
    for name, shape in wanted.items():
        if given[name] != shape:
            return f"'{name}' has shape {list(given[name])} instead of {list(shape)}"
    return None

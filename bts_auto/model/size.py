"""How large a network is: by arithmetic where its layers are known, else by building it without memory."""

from __future__ import annotations

from dataclasses import dataclass

from bts_auto.errors import PlanError
from bts_auto.plan.compute_model import plan_compute
from bts_auto.plan.layers import unet_layers
from bts_auto.plan.schema import Plan

_GIGA = 1e9


@dataclass(frozen=True)
class NetworkSize:
    """Trained numbers, and floating-point operations of one patch in inference, in 10^9.

    A multiplication and its addition are two operations; only convolutions are counted.
    """

    parameters: int
    gflop: float


def network_size(plan: Plan, name: str) -> NetworkSize:
    """The size of a configuration's network.

    Raises
    ------
    PlanError
        When the plan has no such configuration or its network cannot be built.
    """
    try:
        layers = unet_layers(plan.configuration(name), *plan.network_channels(name))
    except PlanError:
        return built_size(plan, name)
    return NetworkSize(sum(layer.parameters for layer in layers), plan_compute(plan, name).inference / _GIGA)


def built_size(plan: Plan, name: str) -> NetworkSize:
    """The same for any network, counted on a network whose tensors have shapes and no memory; loads torch.

    Raises
    ------
    PlanError
        As :func:`network_size`.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from bts_auto.model.build import empty_network

    network = empty_network(plan, name).eval()
    network.deep_supervision = False  # type: ignore[assignment]
    patch = torch.empty(1, plan.network_channels(name)[0], *plan.configuration(name).patch_size, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(patch)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return NetworkSize(parameters, counter.get_total_flops() / _GIGA)

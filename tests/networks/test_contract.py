"""What every registered network promises."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bts_auto import registry
from bts_auto.errors import PlanError

# (kernel sizes, strides, patch): isotropic, anisotropic with sizes that the strides do not divide, and 2d.
TOPOLOGIES = {
    "isotropic": (((3, 3, 3),) * 3, ((1, 1, 1), (2, 2, 2), (2, 2, 2)), (8, 8, 8)),
    "anisotropic": (((1, 3, 3), (3, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2), (2, 2, 2)), (5, 16, 12)),
    "odd": (((3, 3, 3),) * 3, ((1, 1, 1), (2, 2, 2), (2, 2, 2)), (7, 9, 10)),
    "plane": (((3, 3),) * 3, ((1, 1), (2, 2), (2, 1)), (12, 7)),
}
IN_CHANNELS, OUT_CHANNELS = 2, 3
EVERY_NETWORK = pytest.mark.parametrize("name", registry.names("network"))
EVERY_TOPOLOGY = pytest.mark.parametrize("topology", TOPOLOGIES)


def build(name: str, topology: str = "isotropic", seed: int = 0, **changes: object) -> nn.Module:
    kernels, strides, patch = TOPOLOGIES[topology]
    values = {"features_per_stage": (4, 6, 8), "kernel_sizes": kernels, "strides": strides} | changes
    options = registry.options("network", name, values)
    network = registry.component("network", name)(options, IN_CHANNELS, OUT_CHANNELS, len(patch), patch)
    network.initialise(torch.Generator().manual_seed(seed))
    return network


def image(topology: str = "isotropic", seed: int = 1) -> torch.Tensor:
    patch = TOPOLOGIES[topology][2]
    return torch.randn(2, IN_CHANNELS, *patch, generator=torch.Generator().manual_seed(seed))


@EVERY_NETWORK
@EVERY_TOPOLOGY
def test_logits_have_the_size_of_the_input(name: str, topology: str) -> None:
    network, x = build(name, topology), image(topology)
    assert network(x)["logits"][0].shape == (2, OUT_CHANNELS, *x.shape[2:])


@EVERY_NETWORK
@EVERY_TOPOLOGY
def test_deep_supervision_adds_coarser_logits(name: str, topology: str) -> None:
    network, x = build(name, topology), image(topology)
    sizes = [tuple(one.shape[2:]) for one in network(x)["logits"]]
    wanted = [
        tuple(math.ceil(n * share) for n, share in zip(x.shape[2:], scale, strict=True))
        for scale in network.output_scales
    ]
    assert sizes == wanted


@EVERY_NETWORK
def test_without_deep_supervision_the_logits_are_the_same_and_alone(name: str) -> None:
    network, x = build(name), image()
    finest = network(x)["logits"][0]
    network.deep_supervision = False
    alone = network(x)["logits"]
    assert len(alone) == 1
    torch.testing.assert_close(alone[0], finest, rtol=0, atol=0)


@EVERY_NETWORK
@EVERY_TOPOLOGY
def test_every_parameter_has_a_gradient(name: str, topology: str) -> None:
    network = build(name, topology)
    with torch.no_grad():  # residual branches start silent
        for parameter in network.parameters():
            parameter.add_(0.1)
    sum(one.square().sum() for one in network(image(topology))["logits"]).backward()
    still = [
        key
        for key, parameter in network.named_parameters()
        if parameter.grad is None or (key.endswith("weight") and not parameter.grad.abs().max() > 0)
    ]
    assert still == []


@EVERY_NETWORK
def test_the_same_seed_makes_the_same_network(name: str) -> None:
    one, other, different = build(name), build(name), build(name, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert not torch.equal(next(one.parameters()), next(different.parameters()))


@EVERY_NETWORK
def test_a_seeded_network_leaves_the_global_generator_alone(name: str) -> None:
    network = build(name)
    before = torch.get_rng_state()
    network.initialise(torch.Generator().manual_seed(3))
    assert torch.equal(before, torch.get_rng_state())


@EVERY_NETWORK
@EVERY_TOPOLOGY
def test_bf16_autocast_stays_near_fp32(name: str, topology: str) -> None:
    network, x = build(name, topology), image(topology)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = network(x)["logits"]
        sum(one.float().square().mean() for one in outputs).backward()
    exact = network(x)["logits"][0]
    # In the mean over voxels: where two values nearly tie, rounding moves a maximum that is put back to its place.
    assert (outputs[0].float() - exact).norm() < 0.1 * exact.norm()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())


@EVERY_NETWORK
@pytest.mark.parametrize("topology", ["isotropic", "plane"])
def test_channels_last_changes_nothing(name: str, topology: str) -> None:
    network, x = build(name, topology).eval(), image(topology)
    layout = torch.channels_last_3d if x.ndim == 5 else torch.channels_last
    with torch.no_grad():
        plain = network(x)["logits"][0]
        last = network.to(memory_format=layout)(x.to(memory_format=layout))["logits"][0]
    torch.testing.assert_close(last, plain, rtol=1e-5, atol=1e-5)


@EVERY_NETWORK
@pytest.mark.parametrize("topology", ["odd", "plane"])
def test_export_gives_the_same_logits(name: str, topology: str) -> None:
    network, x = build(name, topology).eval(), image(topology)
    network.deep_supervision = False
    exported = torch.export.export(network, (x,), strict=False).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(x)["logits"][0], network(x)["logits"][0], rtol=1e-5, atol=1e-5)


@EVERY_NETWORK
@pytest.mark.filterwarnings("error::torch.jit.TracerWarning")
def test_a_trace_holds_for_every_size(name: str) -> None:
    network = build(name).eval().requires_grad_(False)
    network.deep_supervision = False
    traced = torch.jit.trace(lambda x: network(x)["logits"][0], image("isotropic"), check_trace=False)
    with torch.no_grad():
        torch.testing.assert_close(traced(image("odd")), network(image("odd"))["logits"][0], rtol=1e-5, atol=1e-5)


@EVERY_NETWORK
@pytest.mark.parametrize("norm", ["instance", "batch", "group", "none"])
@pytest.mark.parametrize("activation", ["leaky_relu", "relu", "elu", "silu", "gelu"])
def test_every_layer_option_trains(name: str, norm: str, activation: str) -> None:
    network = build(name, "plane", norm=norm, activation=activation, dropout=0.2)
    network(image("plane"))["logits"][0].square().sum().backward()
    assert torch.isfinite(network.encoder[0][0].conv.weight.grad).all()


@EVERY_NETWORK
def test_one_stage_is_refused(name: str) -> None:
    with pytest.raises(PlanError, match="at least two stages"):
        build(name, features_per_stage=(4,), kernel_sizes=((3, 3, 3),), strides=((1, 1, 1),))


@EVERY_NETWORK
def test_a_plan_for_another_number_of_axes_is_refused(name: str) -> None:
    with pytest.raises(PlanError, match="2 axes"):
        build(name, kernel_sizes=((3, 3),) * 3, strides=((1, 1),) * 3)

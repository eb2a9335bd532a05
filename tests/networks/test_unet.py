"""The U-Nets against nnU-Net's.

The numbers were made with PlainConvUNet and ResidualEncoderUNet of dynamic_network_architectures 0.4.4, whose weights
were set by :func:`fill` under the names that they have here.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bts_auto import registry
from bts_auto.networks.blocks import LEAKY_SLOPE, ResidualBlock

PARAMETERS = {
    ("plain_unet", "cube"): 31_198_873,
    ("plain_unet", "plane"): 32_425_042,
    ("plain_unet", "anisotropic"): 30_339_759,
    ("residual_unet", "cube"): 102_353_049,
    ("residual_unet", "plane"): 104_870_034,
    ("residual_unet", "anisotropic"): 101_272_751,
}
PLANS = {
    "cube": ((32, 64, 128, 256, 320, 320), ((3,) * 3,) * 6, ((1,) * 3, *((2,) * 3,) * 5), 2, 5),
    "plane": ((32, 64, 128, 256, 512, 512, 512), ((3, 3),) * 7, ((1, 1), *((2, 2),) * 4, *((2, 1),) * 2), 2, 3),
    "anisotropic": (
        (32, 64, 128, 256, 320, 320),
        ((1, 3, 3), (1, 3, 3), *((3, 3, 3),) * 4),
        ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2)),
        1,
        3,
    ),
}
# For each head, finest first: norm of the logits, and entry 5 of channel 2 of the second sample.
LOGITS = {
    ("plain_unet", 2): [(2.91289849, -0.00656205), (1.80599431, -0.11575891)],
    ("plain_unet", 3): [(8.23607924, -0.00598248), (5.09046354, -0.21294781)],
    ("residual_unet", 2): [(3.2113757, -0.15098919), (2.0834604, -0.14773533)],
    ("residual_unet", 3): [(9.0992068, -0.14333555), (5.65013119, 0.00625608)],
}
TINY = {
    2: (((3, 3),) * 3, ((1, 1), (2, 2), (2, 1)), (4, 8)),
    3: (((1, 3, 3), (3, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2), (2, 2, 2)), (4, 8, 8)),
}


def build(name: str, features, kernels, strides, in_channels: int, out_channels: int) -> nn.Module:
    values = {"features_per_stage": features, "kernel_sizes": kernels, "strides": strides}
    options = registry.options("network", name, values)
    return registry.component("network", name)(options, in_channels, out_channels, len(kernels[0]), ())


def fill(network: nn.Module) -> None:
    """Set every weight to a sine of its place and its name."""
    for name, tensor in network.state_dict().items():
        place = torch.arange(tensor.numel(), dtype=tensor.dtype)
        tensor.copy_(0.3 * torch.sin(0.7 * place + sum(name.encode())).reshape(tensor.shape))


@pytest.mark.parametrize(("name", "plan"), PARAMETERS)
def test_as_many_parameters_as_nnunet(name: str, plan: str) -> None:
    with torch.device("meta"):
        network = build(name, *PLANS[plan])
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name, plan]


def test_the_plain_count_follows_from_the_plan() -> None:
    """Count by hand: convolutions with bias, two numbers per normalised channel, transposed convolutions, heads."""
    features, kernels, strides, in_channels, out_channels = PLANS["cube"]

    def block(a: int, b: int, kernel: tuple[int, ...]) -> int:
        return a * b * math.prod(kernel) + b + 2 * b

    encoder = sum(
        block(a, b, kernel) + block(b, b, kernel)
        for a, b, kernel in zip((in_channels, *features), features, kernels, strict=False)
    )
    decoder = sum(
        (below * here * math.prod(stride) + here)
        + block(2 * here, here, kernel)
        + block(here, here, kernel)
        + (here * out_channels + out_channels)
        for here, below, kernel, stride in zip(features, features[1:], kernels, strides[1:], strict=False)
    )
    assert encoder + decoder == PARAMETERS["plain_unet", "cube"]


@pytest.mark.parametrize(("name", "dims"), LOGITS)
def test_the_same_function_as_nnunets_given_the_same_weights(name: str, dims: int) -> None:
    kernels, strides, size = TINY[dims]
    network = build(name, (4, 6, 8), kernels, strides, 2, 3).double()
    fill(network)
    count = 2 * 2 * math.prod(size)
    x = torch.sin(1.3 * torch.arange(count, dtype=torch.float64)).reshape(2, 2, *size)
    logits = network(x)["logits"]
    found = [(one.square().sum().sqrt().item(), one[1, 2].flatten()[5].item()) for one in logits]
    assert found == [pytest.approx(pair, abs=1e-7) for pair in LOGITS[name, dims]]


def test_weights_begin_with_hes_variance() -> None:
    network = build("plain_unet", (8, 64), ((3, 3, 3),) * 2, ((1, 1, 1), (2, 2, 2)), 32, 2)
    network.initialise(torch.Generator().manual_seed(0))
    weight = network.encoder[0][0].conv.weight
    expected = math.sqrt(2 / (1 + LEAKY_SLOPE**2) / (32 * 27))
    assert weight.std().item() == pytest.approx(expected, rel=0.05)
    assert not network.encoder[0][0].conv.bias.any()


def test_a_residual_block_begins_as_its_shortcut() -> None:
    network = build("residual_unet", (4, 8), ((3, 3),) * 2, ((1, 1), (2, 2)), 1, 2)
    block = network.encoder[0][1]
    assert isinstance(block, ResidualBlock)
    x = torch.rand(1, 4, 6, 6)  # not negative, so that the activation leaves it as it is
    torch.testing.assert_close(block(x.clone()), x)


def test_a_shortcut_with_stride_averages() -> None:
    block = ResidualBlock(registry.options("network", "residual_unet", None), 3, 3, (3, 3), (2, 2))
    nn.init.zeros_(block.second.norm.weight)
    x = torch.rand(1, 3, 4, 4)
    torch.testing.assert_close(block(x), nn.functional.avg_pool2d(x, 2))

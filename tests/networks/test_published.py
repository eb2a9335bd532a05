"""Networks of publications: what their papers say of their size."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from bts_auto import registry
from bts_auto.networks.blocks import max_pool
from bts_auto.networks.unpooling_unet import unpool

# nnU-Net's widths for a BraTS patch of 128^3.
FEATURES = (32, 64, 128, 256, 320, 320)


def _on_meta(name: str, in_channels: int, out_channels: int, **changes: object) -> torch.nn.Module:
    stages = len(FEATURES)
    planned = {
        "features_per_stage": FEATURES,
        "kernel_sizes": ((3, 3, 3),) * stages,
        "strides": ((1, 1, 1), *((2, 2, 2),) * (stages - 1)),
    }
    options = registry.options("network", name, planned | changes)
    with torch.device("meta"):
        return registry.component("network", name)(options, in_channels, out_channels, 3, (128, 128, 128))


def test_nnsegnet_has_as_many_parameters_as_its_paper_says() -> None:
    network = _on_meta("unpooling_unet", 4, 3)
    assert sum(parameter.numel() for parameter in network.parameters()) == 27_663_648


def test_deepseg_has_five_blocks_of_two_convolutions() -> None:
    network = _on_meta("deepseg", 4, 3)
    convolutions = [[m for m in stage.modules() if isinstance(m, torch.nn.Conv3d)] for stage in network.encoder]
    assert [len(stage) for stage in convolutions] == [2] * 5
    assert [stage[-1].out_channels for stage in convolutions] == list(FEATURES[:5])
    assert sum(isinstance(m, torch.nn.BatchNorm3d) for m in network.modules()) == 18
    assert network(torch.empty(1, 4, 128, 128, 128, device="meta"))["logits"][0].shape == (1, 3, 128, 128, 128)


@pytest.mark.parametrize("size", [(8, 6, 4), (7, 5, 9)])
def test_unpooling_is_torchs(size: tuple[int, ...]) -> None:
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    pooled, indices = max_pool(3, (2, 2, 2), indices=True)(x)
    expected = functional.max_unpool3d(pooled, indices, 2, 2, output_size=size)
    torch.testing.assert_close(unpool(pooled, indices, x), expected, rtol=0, atol=0)

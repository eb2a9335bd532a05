"""Layers and operations against the networks that are built."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bts_auto import registry
from bts_auto.losses.deep_supervision import scale_weights
from bts_auto.plan.compute_model import layer_compute, plan_compute
from bts_auto.plan.layers import unet_layers
from bts_auto.plan.schema import SegmentationConfiguration
from tests.plan.cases import plan

IN, OUT = 2, 4
PLANS = [
    pytest.param("plain", (40, 48, 40), (1.0, 1.0, 1.0), "3d_fullres", id="plain-3d"),
    pytest.param("plain", (40, 48, 40), (1.0, 1.0, 1.0), "2d", id="plain-2d"),
    pytest.param("plain", (10, 64, 64), (6.0, 1.0, 1.0), "3d_fullres", id="plain-thick"),
    pytest.param("resenc_m", (40, 48, 40), (1.0, 1.0, 1.0), "3d_fullres", id="residual-3d"),
    pytest.param("resenc_m", (10, 64, 64), (6.0, 1.0, 1.0), "3d_fullres", id="residual-thick"),
    pytest.param("resenc_m", (1, 80, 70), (999.0, 1.0, 1.0), "2d", id="residual-2d"),
]


def _network(configuration: SegmentationConfiguration) -> torch.nn.Module:
    make = registry.component("network", configuration.network.name)
    with torch.device("meta"):
        return make(configuration.network_options(), IN, OUT, configuration.dims, configuration.patch_size)


def _step(configuration: SegmentationConfiguration, deep_supervision: bool) -> int:
    """FLOPs of forward and backward, counted by torch on tensors without memory."""
    network = _network(configuration)
    network.deep_supervision = deep_supervision
    images = torch.zeros(configuration.batch_size, IN, *configuration.patch_size, device="meta")
    with FlopCounterMode(display=False) as counter:
        logits = network(images)["logits"]
        weights = scale_weights(len(logits))
        sum(w * one.sum() for w, one in zip(weights, logits, strict=True) if w > 0).backward()
    return counter.get_total_flops()


@pytest.mark.parametrize(("preset", "shape", "spacing", "name"), PLANS)
def test_parameters_are_those_of_the_network(preset: str, shape: tuple, spacing: tuple, name: str):
    configuration = plan(shape, spacing, preset=preset).configuration(name)
    counted = sum(layer.parameters for layer in unet_layers(configuration, IN, OUT))
    assert counted == sum(parameter.numel() for parameter in _network(configuration).parameters())


@pytest.mark.parametrize("deep_supervision", [True, False])
@pytest.mark.parametrize(("preset", "shape", "spacing", "name"), PLANS)
def test_a_steps_operations_are_those_that_torch_counts(
    preset: str, shape: tuple, spacing: tuple, name: str, deep_supervision: bool
):
    configuration = plan(shape, spacing, preset=preset).configuration(name)
    layers = unet_layers(configuration, IN, OUT)
    predicted = layer_compute(layers, configuration.batch_size, deep_supervision=deep_supervision)
    assert predicted.step == _step(configuration, deep_supervision)


def test_nnunets_reference_network_has_its_parameters():
    made = plan((140, 170, 140))
    configuration = made.configuration("3d_fullres")
    assert configuration.patch_size == (128, 128, 128)
    assert sum(layer.parameters for layer in unet_layers(configuration, 2, 5)) == 31_198_873


def test_a_cascade_reads_the_previous_masks():
    made = plan((500, 512, 512))
    assert made.network_channels("3d_fullres") == (2, 3)
    assert made.network_channels("3d_cascade_fullres") == (4, 3)
    assert plan_compute(made, "3d_cascade_fullres").step > plan_compute(made, "3d_fullres").step

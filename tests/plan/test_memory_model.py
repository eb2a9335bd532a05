"""The memory model against what autograd keeps."""

from __future__ import annotations

import pytest
import torch

from bts_auto import registry
from bts_auto.errors import PlanError
from bts_auto.plan.layers import unet_layers
from bts_auto.plan.memory_model import RUNTIME_ON_CPU, layer_memory, plan_memory
from bts_auto.plan.schema import SegmentationConfiguration
from tests.plan.cases import plan

IN, OUT = 2, 4


def _kept_by_autograd(configuration: SegmentationConfiguration) -> int:
    """Bytes of all activations that autograd saves in a forward pass, each storage once, parameters left out."""
    make = registry.component("network", configuration.network.name)
    with torch.device("meta"):
        network = make(configuration.network_options(), IN, OUT, configuration.dims, configuration.patch_size)
    own = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}  # held, so that no storage is counted twice under another's address

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    images = torch.zeros(configuration.batch_size, IN, *configuration.patch_size, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = network(images)
    assert len(outputs["logits"]) == configuration.n_stages - 1
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("preset", ["plain", "resenc_m"])
@pytest.mark.parametrize(
    ("shape", "spacing", "name"),
    [
        ((40, 48, 40), (1.0, 1.0, 1.0), "3d_fullres"),
        ((10, 64, 64), (6.0, 1.0, 1.0), "3d_fullres"),
        ((40, 48, 40), (1.0, 1.0, 1.0), "2d"),
    ],
)
def test_layers_keep_what_autograd_keeps(preset: str, shape: tuple, spacing: tuple, name: str):
    configuration = plan(shape, spacing, preset=preset).configuration(name)
    layers = unet_layers(configuration, IN, OUT)
    image = layers[0].in_elements
    counted = 4 * configuration.batch_size * (image + sum(layer.kept for layer in layers))
    assert counted == pytest.approx(_kept_by_autograd(configuration), rel=0.02)


# Peak resident sets of two training steps on a CPU above the process's before, in MiB, measured with torch 2.13:
# network, soft Dice and cross entropy with deep supervision, SGD with momentum, gradient clipping.
@pytest.mark.parametrize(
    ("preset", "shape", "spacing", "name", "measured"),
    [
        ("plain", (140, 160, 145), (1.0, 1.0, 1.0), "3d_fullres", 1420),
        ("plain", (140, 160, 145), (1.0, 1.0, 1.0), "2d", 1627),
        ("plain", (24, 256, 256), (6.0, 1.0, 1.0), "3d_fullres", 1866),
        ("resenc_m", (140, 160, 145), (1.0, 1.0, 1.0), "3d_fullres", 2095),
        ("resenc_m", (140, 160, 145), (1.0, 1.0, 1.0), "2d", 2545),
    ],
)
def test_peak_is_near_the_measured_one(preset: str, shape: tuple, spacing: tuple, name: str, measured: int):
    predicted = plan_memory(plan(shape, spacing, preset=preset, gpu_memory_gb=1), name).peak + RUNTIME_ON_CPU
    assert predicted / 2**20 == pytest.approx(measured, rel=0.2)


def test_what_costs_memory():
    configuration = plan((40, 48, 40)).configuration("3d_fullres")
    layers = unet_layers(configuration, IN, OUT)
    base = layer_memory(layers, 2)
    assert layer_memory(layers, 3).peak > base.peak
    assert layer_memory(layers, 2, precision="bf16").activations < base.activations
    assert layer_memory(layers, 2, optimiser="adam").optimiser == 2 * base.optimiser
    assert layer_memory(layers, 2, deep_supervision=False).activations < base.activations


def test_a_network_of_one_stage_is_refused():
    with pytest.raises(PlanError, match="two stages"):
        plan_memory(plan((6, 6, 6)), "3d_fullres")

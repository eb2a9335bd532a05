"""Sizes by bytes and operations."""

from __future__ import annotations

import math

import pytest

from bts_auto.errors import PlanError
from bts_auto.plan.compute_model import layer_compute
from bts_auto.plan.measured import Limits, features_of, measured_sizer, topology_layers
from bts_auto.plan.memory_model import layer_memory
from bts_auto.plan.planner import Sized, make_plan
from bts_auto.plan.presets import PRESETS, features_per_stage
from tests.plan.cases import dataset, fingerprint

SPACING, MEDIAN = (1.0, 1.0, 1.0), (140.0, 160.0, 145.0)
MANY = 1e12


def size(limits: Limits, preset: str = "plain", dataset_voxels: float = MANY) -> Sized:
    return measured_sizer(PRESETS[preset], limits, 2, 3)(SPACING, MEDIAN, dataset_voxels)


def layers(sized: Sized, preset: str = "plain"):
    assert sized.features is not None
    return topology_layers(sized.topology, PRESETS[preset], sized.features[0], 2, 3)


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("memory_gb", [1, 4, 12])
def test_the_batch_fills_the_memory_and_no_more(preset: str, memory_gb: float):
    sized = size(Limits(memory_gb), preset)
    network = layers(sized, preset)
    assert layer_memory(network, sized.batch_size).peak <= memory_gb * 2**30
    assert layer_memory(network, sized.batch_size + 1).peak > memory_gb * 2**30


def test_lower_precision_buys_larger_patches():
    patches = [math.prod(size(Limits(4, precision)).topology.patch_size) for precision in ("fp32", "bf16")]
    assert patches[1] > patches[0]


def test_operations_bound_a_step():
    sized = size(Limits(64, step_tflop=1.0))
    assert layer_compute(layers(sized), sized.batch_size).step <= 1e12


def test_a_small_dataset_bounds_the_batch():
    assert size(Limits(64), dataset_voxels=4 * math.prod(MEDIAN)).batch_size == 2


def test_width_gives_way_before_the_patch_gets_tiny():
    narrow = size(Limits(0.8))
    assert narrow.features[0] < 32
    assert math.prod(narrow.topology.patch_size) >= 64**3


def test_nothing_fits_nothing():
    with pytest.raises(PlanError, match="no patch fits"):
        size(Limits(1e-4))


def test_the_usual_width_has_the_usual_channels():
    assert features_of(32, 6, 3) == features_per_stage(6, 3)
    assert features_of(16, 6, 3) == (16, 32, 64, 128, 160, 160)


def test_a_plan_of_measured_sizes_says_so():
    sizer = measured_sizer(PRESETS["plain"], Limits(2), 2, 3)
    made = make_plan(fingerprint(), dataset(), gpu_memory_gb=2, dataset_name="Dataset001_Test", sizer=sizer)
    made.check()
    assert made.planner == "measured"

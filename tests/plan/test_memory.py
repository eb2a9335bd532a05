"""nnU-Net's count of feature-map voxels."""

import pytest

from bts_auto.plan.memory import feature_map_voxels
from bts_auto.plan.presets import PRESETS
from bts_auto.plan.topology import Topology, plan_topology

_CUBE = plan_topology((1.0, 1.0, 1.0), (128, 128, 128))
_SQUARE = plan_topology((1.0, 1.0), (512, 512))
_THICK = plan_topology((5.0, 1.0, 1.0), (20, 256, 224))
_TINY = plan_topology((1.0, 1.0, 1.0), (6, 6, 6))


# Counted by compute_conv_feature_map_size of dynamic-network-architectures 0.4.4 on PlainConvUNet and
# ResidualEncoderUNet, built with nnU-Net's default blocks.
@pytest.mark.parametrize(
    ("preset", "topology", "outputs", "voxels"),
    [
        ("plain", _CUBE, 3, 452796416),
        ("plain", _SQUARE, 3, 82886656),
        ("plain", _THICK, 5, 340300800),
        ("plain", _TINY, 3, 13824),
        ("resenc_m", _CUBE, 3, 557420544),
        ("resenc_m", _SQUARE, 3, 129703936),
        ("resenc_m", _THICK, 5, 496258560),
        ("resenc_m", _TINY, 3, 20736),
    ],
)
def test_equals_the_count_of_the_built_network(preset: str, topology: Topology, outputs: int, voxels: int):
    assert feature_map_voxels(topology, PRESETS[preset], outputs) == voxels


@pytest.mark.parametrize("preset", ["plain", "resenc_l"])
def test_heads_count_at_full_resolution_only(preset: str):
    one, two = (feature_map_voxels(_THICK, PRESETS[preset], outputs) for outputs in (1, 2))
    assert two - one == 20 * 256 * 224

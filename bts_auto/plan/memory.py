"""nnU-Net's measure of a network's size: the voxels of all convolutions' outputs for one sample.

The measure knows no optimiser, no input and no batch; `memory_model.py` predicts bytes.
"""

from __future__ import annotations

import math

from bts_auto.plan.presets import Preset, features_per_stage
from bts_auto.plan.topology import Topology


def stage_sizes(topology: Topology) -> list[tuple[int, ...]]:
    """Edge lengths of the feature maps of each stage."""
    sizes, size = [], topology.patch_size
    for stride in topology.strides:
        size = tuple(edge // step for edge, step in zip(size, stride, strict=True))
        sizes.append(size)
    return sizes


def _residual_outputs(stage: int, blocks: int, topology: Topology, features: tuple[int, ...]) -> int:
    """Counted outputs of one residual encoder stage, in units of its feature map: two per block, and one for a skip
    path that changes size or width (pooling alone counts as well)."""
    widens = stage > 0 and features[stage] != features[stage - 1]
    shrinks = any(step != 1 for step in topology.strides[stage])
    return 2 * blocks + (1 if widens or shrinks else 0)


def feature_map_voxels(topology: Topology, preset: Preset, n_outputs: int) -> int:
    """Voxels of all convolution outputs, for batch 1 and without deep supervision.

    Counted as `compute_conv_feature_map_size` of dynamic-network-architectures 0.4.4 counts: encoder convolutions (the
    residual encoder's stem included), transposed convolutions, decoder convolutions, and the segmentation head at full
    resolution, which a network of a single stage has not.

    Parameters
    ----------
    n_outputs : int
        Channels of the segmentation head: all entries of dataset.json's `labels`, as nnU-Net's planner counts them.
    """
    n_stages, dims = topology.n_stages, len(topology.patch_size)
    features = features_per_stage(n_stages, dims)
    voxels = [math.prod(size) for size in stage_sizes(topology)]
    total = features[0] * voxels[0] if preset.residual else 0
    for stage, blocks in enumerate(preset.encoder_blocks(n_stages)):
        outputs = _residual_outputs(stage, blocks, topology, features) if preset.residual else blocks
        total += outputs * features[stage] * voxels[stage]
    for stage, convolutions in enumerate(reversed(preset.decoder_convolutions(n_stages))):
        total += (convolutions + 1) * features[stage] * voxels[stage]
    return total + (n_outputs * voxels[0] if n_stages > 1 else 0)

"""DeepSeg in 3D: a U-Net with max-pooling, batch normalisation, dropout and one head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from bts_auto.networks.blocks import ConvBlock, convolution, initialise, max_pool
from bts_auto.networks.options import DeepSegOptions, per_stage
from bts_auto.networks.unet import DecoderStage


class DeepSeg(nn.Module):
    """Convolutional blocks between max-poolings, and up-convolutions with skips back to full resolution.

    Attributes
    ----------
    deep_supervision : bool
        Without effect: there is one head, at full resolution.
    """

    def __init__(self, options: DeepSegOptions, in_channels: int, out_channels: int, dims: int) -> None:
        super().__init__()
        self.deep_supervision = True
        n_stages = min(options.n_stages, options.most_stages)
        features, kernels = options.features_per_stage[:n_stages], options.kernel_sizes
        strides, self.first_stride = options.strides, options.strides[0]
        counts = per_stage(options.n_conv_per_stage, n_stages, "n_conv_per_stage")
        self.encoder = nn.ModuleList()
        channels = in_channels
        for s in range(n_stages):
            blocks: list[nn.Module] = [max_pool(dims, strides[s])] if s else []
            blocks.append(ConvBlock(options, channels, features[s], kernels[s], None if s else strides[0]))
            blocks += [ConvBlock(options, features[s], features[s], kernels[s]) for _ in range(counts[s] - 1)]
            self.encoder.append(nn.Sequential(*blocks))
            channels = features[s]
        self.decoder = nn.ModuleList(
            DecoderStage(options, features[s + 1], features[s], strides[s + 1], kernels[s], counts[s])
            for s in reversed(range(n_stages - 1))
        )
        self.head = convolution(dims, features[0], out_channels, (1,) * dims)
        self.initialise()

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Draw all weights anew from `generator` (None: torch's own)."""
        initialise(self, generator)

    @property
    def output_scales(self) -> tuple[tuple[float, ...], ...]:
        """Size of the logits as a share of the input's."""
        return (tuple(1 / step for step in self.first_stride),)

    def forward(self, x: torch.Tensor) -> dict[str, list[torch.Tensor]]:
        """(b, in_channels, \\*s) -> ``{"logits": [(b, out_channels, \\*s)]}``."""
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        skips.pop()
        for stage in self.decoder:
            x = stage(x, skips)
        return {"logits": [self.head(x)]}


def deepseg(
    options: DeepSegOptions, in_channels: int, out_channels: int, dims: int, patch_size: Sequence[int]
) -> DeepSeg:
    """Build DeepSeg with the planned widths, kernels and pooling steps.

    Raises
    ------
    PlanError
        When the options do not fit each other or `dims`.

    References
    ----------
    Zeineldin et al., Ensemble CNN Networks for GBM Tumors Segmentation Using Multi-parametric MRI, BrainLes 2021; the
    2D network: Zeineldin et al., DeepSeg, International Journal of Computer Assisted Radiology and Surgery 15, 2020.
    """
    options.check_planned(dims)
    return DeepSeg(options, in_channels, out_channels, dims)

"""A U-Net without learned upsampling: maxima go back to the places that they were pooled from."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from bts_auto.networks.blocks import ConvBlock, convolution, initialise, max_pool
from bts_auto.networks.options import UnpoolingUNetOptions, per_stage


def unpool(x: torch.Tensor, indices: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Put each value where its maximum was, and 0 everywhere else.

    Parameters
    ----------
    x, indices : Tensor, shape (b, c, \\*s)
        Values, and their flat positions in a channel of `like`, as max-pooling returns them.
    like : Tensor, shape (b, c, \\*t)
        Features before pooling; only the size counts.
    """
    # Torch's own unpooling takes its size as numbers, which a trace would fix, and not every precision.
    empty = torch.zeros_like(like, dtype=x.dtype, memory_format=torch.contiguous_format)
    return empty.flatten(2).scatter(2, indices.flatten(2), x.flatten(2)).reshape(like.shape)


class UnpoolingUNet(nn.Module):
    """An encoder that pools by maxima, a decoder that unpools, skips between them, and a head at every resolution.

    The last convolution of each decoder stage has the width of the next finer stage of the encoder, whose places its
    values go to.

    Attributes
    ----------
    deep_supervision : bool
        Whether the logits of all decoder stages are computed, or only those at full resolution.
    """

    def __init__(self, options: UnpoolingUNetOptions, in_channels: int, out_channels: int, dims: int) -> None:
        super().__init__()
        self.deep_supervision = True
        self.strides = options.strides
        features, kernels = options.features_per_stage, options.kernel_sizes
        n_up = options.n_stages - 1
        down = per_stage(options.n_conv_per_stage, options.n_stages, "n_conv_per_stage")
        up = per_stage(options.n_conv_per_stage_decoder, n_up, "n_conv_per_stage_decoder")

        def stage(channels: Sequence[int], kernel: Sequence[int], stride: Sequence[int] | None = None) -> nn.Sequential:
            steps = [stride] + [None] * (len(channels) - 2)
            pairs = zip(pairwise(channels), steps, strict=True)
            return nn.Sequential(*[ConvBlock(options, a, b, kernel, step) for (a, b), step in pairs])

        widths = (in_channels, *features)
        self.encoder = nn.ModuleList(
            stage(
                [widths[s]] + [features[s]] * (down[s] - 1) + [features[min(s, n_up - 1)]],
                kernels[s],
                options.strides[0] if s == 0 else None,
            )
            for s in range(options.n_stages)
        )
        self.pools = nn.ModuleList(max_pool(dims, stride, indices=True) for stride in options.strides[1:])
        finer = [features[max(s - 1, 0)] for s in range(n_up)]
        self.decoder = nn.ModuleList(
            stage([2 * features[s]] + [features[s]] * (count - 1) + [finer[s]], kernels[s])
            for s, count in zip(reversed(range(n_up)), up, strict=True)
        )
        self.heads = nn.ModuleList(
            convolution(dims, finer[s], out_channels, (1,) * dims, bias=options.head_bias)
            for s in reversed(range(n_up))
        )
        self.initialise()

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Draw all weights anew from `generator` (None: torch's own)."""
        initialise(self, generator)

    @property
    def output_scales(self) -> tuple[tuple[float, ...], ...]:
        """Size of each entry of the logits under deep supervision, as a share of the input's, finest first."""
        scales, at = [], [1.0] * len(self.strides[0])
        for stride in self.strides[:-1]:
            at = [share / step for share, step in zip(at, stride, strict=True)]
            scales.append(tuple(at))
        return tuple(scales)

    def forward(self, x: torch.Tensor) -> dict[str, list[torch.Tensor]]:
        """Compute the logits.

        Parameters
        ----------
        x : Tensor, shape (b, in_channels, \\*s)

        Returns
        -------
        dict
            ``{"logits": [...]}``: (b, out_channels, \\*s), and under deep supervision the coarser ones after it.
        """
        skips, places = [], []
        for stage, pool in zip(self.encoder, self.pools, strict=False):
            x = stage(x)
            skips.append(x)
            x, indices = pool(x)
            places.append(indices)
        x = self.encoder[-1](x)
        logits: list[torch.Tensor] = []
        finest = len(self.decoder) - 1
        for s, (stage, head) in enumerate(zip(self.decoder, self.heads, strict=True)):
            skip = skips.pop()
            x = stage(torch.cat((unpool(x, places.pop(), skip), skip), dim=1))
            if self.deep_supervision or s == finest:
                logits.insert(0, head(x))
        return {"logits": logits}


def unpooling_unet(
    options: UnpoolingUNetOptions, in_channels: int, out_channels: int, dims: int, patch_size: Sequence[int]
) -> UnpoolingUNet:
    """Build nnSegNet.

    Raises
    ------
    PlanError
        When the options do not fit each other or `dims`.

    References
    ----------
    Jabareen and Lukassen, Segmenting Brain Tumors in Multi-modal MRI Scans Using a 3D SegNet Architecture, BrainLes
    2021. Unpooling: Badrinarayanan et al., SegNet, IEEE TPAMI 39, 2017.
    """
    options.check_planned(dims)
    return UnpoolingUNet(options, in_channels, out_channels, dims)

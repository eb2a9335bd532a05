"""The planned U-Nets: plain and with a residual encoder, 2d and 3d, with deep supervision."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from bts_auto.networks.blocks import ConvBlock, ResidualBlock, convolution, initialise, upsampling
from bts_auto.networks.options import PlainUNetOptions, ResidualUNetOptions, UNetOptions, per_stage


class DecoderStage(nn.Module):
    """Upsample the coarser features, join them with the encoder's and convolve."""

    def __init__(
        self,
        options: UNetOptions,
        below: int,
        features: int,
        stride: Sequence[int],
        kernel_size: Sequence[int],
        n_convolutions: int,
    ) -> None:
        super().__init__()
        self.up = upsampling(len(stride), below, features, stride, bias=options.conv_bias)
        channels = [2 * features] + [features] * n_convolutions
        self.convs = nn.Sequential(*[ConvBlock(options, a, b, kernel_size) for a, b in pairwise(channels)])

    def forward(self, x: torch.Tensor, skips: list[torch.Tensor]) -> torch.Tensor:
        """Features one stage down, and the encoder's features, of which the last are used up -> (b, features, \\*s)."""
        x = self.up(x)
        # The encoder rounded an odd size up. A trace is not told which, so that it holds for every size.
        if torch.jit.is_tracing() or x.shape[2:] != skips[-1].shape[2:]:
            for axis, size in enumerate(skips[-1].shape[2:], start=2):
                x = x.narrow(axis, 0, size)
        x = torch.cat((x, skips.pop()), dim=1)
        for block in self.convs:  # one by one, so that inference frees what it no longer needs
            x = block(x)
        return x


class UNet(nn.Module):
    """An encoder, a decoder and a 1x1 head at every resolution of the decoder.

    Parameters
    ----------
    encoder : sequence of Module
        One per stage, finest first.
    options : UNetOptions
        The plan of the stages.
    n_conv_per_stage_decoder : int or tuple of int
        Convolutions of each decoder stage, coarsest first.
    dims, out_channels : int
        Spatial axes, and channels of the logits.

    Attributes
    ----------
    deep_supervision : bool
        Whether the logits of all decoder stages are computed, or only those at full resolution.
    """

    def __init__(
        self,
        encoder: Sequence[nn.Module],
        options: UNetOptions,
        n_conv_per_stage_decoder: int | tuple[int, ...],
        dims: int,
        out_channels: int,
    ) -> None:
        super().__init__()
        self.deep_supervision = True
        self.strides = options.strides
        self.encoder = nn.ModuleList(encoder)
        features, kernels, strides = options.features_per_stage, options.kernel_sizes, options.strides
        counts = per_stage(n_conv_per_stage_decoder, options.n_stages - 1, "n_conv_per_stage_decoder")
        self.decoder = nn.ModuleList(
            DecoderStage(options, features[s + 1], features[s], strides[s + 1], kernels[s], count)
            for s, count in zip(reversed(range(options.n_stages - 1)), counts, strict=True)
        )
        self.heads = nn.ModuleList(convolution(dims, n, out_channels, (1,) * dims) for n in features[-2::-1])
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
        return self.decode(self.encode(x))

    def encode(self, x: torch.Tensor, n_stages: int | None = None) -> list[torch.Tensor]:
        """Features of every stage of the encoder (of the first `n_stages`), finest first."""
        features = []
        for stage in self.encoder if n_stages is None else self.encoder[:n_stages]:
            x = stage(x)
            features.append(x)
        return features

    def decode(self, features: list[torch.Tensor]) -> dict[str, list[torch.Tensor]]:
        """The logits, as :meth:`forward` returns them; `features` of all stages are used up."""
        x, skips = features.pop(), features
        logits: list[torch.Tensor] = []
        finest = len(self.decoder) - 1
        for s, (stage, head) in enumerate(zip(self.decoder, self.heads, strict=True)):
            x = stage(x, skips)
            if self.deep_supervision or s == finest:
                logits.insert(0, head(x))
        return {"logits": logits}


def plain_unet(
    options: PlainUNetOptions, in_channels: int, out_channels: int, dims: int, patch_size: Sequence[int]
) -> UNet:
    """Build nnU-Net's plain convolutional U-Net.

    Raises
    ------
    PlanError
        When the options do not fit each other or `dims`.

    References
    ----------
    Isensee et al., nnU-Net, Nature Methods 18, 2021, supplementary note 2.
    """
    options.check_planned(dims)
    counts = per_stage(options.n_conv_per_stage, options.n_stages, "n_conv_per_stage")
    encoder: list[nn.Module] = []
    channels = in_channels
    stages = zip(options.features_per_stage, options.kernel_sizes, options.strides, counts, strict=True)
    for features, kernel, stride, count in stages:
        blocks: list[nn.Module] = [ConvBlock(options, channels, features, kernel, stride)]
        blocks += [ConvBlock(options, features, features, kernel) for _ in range(count - 1)]
        encoder.append(nn.Sequential(*blocks))
        channels = features
    return UNet(encoder, options, options.n_conv_per_stage_decoder, dims, out_channels)


def residual_unet(
    options: ResidualUNetOptions, in_channels: int, out_channels: int, dims: int, patch_size: Sequence[int]
) -> UNet:
    """Build nnU-Net's U-Net with a residual encoder: a convolution as stem, then residual blocks in every stage.

    Raises
    ------
    PlanError
        When the options do not fit each other or `dims`.

    References
    ----------
    Isensee et al., nnU-Net Revisited, MICCAI 2024, section 2 (ResEnc).
    """
    options.check_planned(dims)
    counts = per_stage(options.n_blocks_per_stage, options.n_stages, "n_blocks_per_stage")
    stem = ConvBlock(options, in_channels, options.features_per_stage[0], options.kernel_sizes[0])
    encoder: list[nn.Module] = []
    channels = options.features_per_stage[0]
    stages = zip(options.features_per_stage, options.kernel_sizes, options.strides, counts, strict=True)
    for features, kernel, stride, count in stages:
        blocks: list[nn.Module] = [stem] if not encoder else []
        blocks.append(ResidualBlock(options, channels, features, kernel, stride))
        blocks += [ResidualBlock(options, features, features, kernel) for _ in range(count - 1)]
        encoder.append(nn.Sequential(*blocks))
        channels = features
    return UNet(encoder, options, options.n_conv_per_stage_decoder, dims, out_channels)

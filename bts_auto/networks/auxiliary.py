"""Branches for further tasks on the features of a network's encoder; used in training only."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from bts_auto.networks.blocks import convolution, initialise

# Bounds of the latent's log-variance: its exponential stays finite in half precision.
_LOG_VARIANCE = 10.0
_POOL = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
_LINEAR = {2: "bilinear", 3: "trilinear"}


class _Block(nn.Module):
    """Normalise, rectify and convolve, twice."""

    def __init__(self, dims: int, in_channels: int, out_channels: int, groups: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in (in_channels, out_channels):
            layers += [nn.GroupNorm(math.gcd(groups, channels), channels), nn.ReLU(inplace=True)]
            layers.append(convolution(dims, channels, out_channels, (3,) * dims))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(b, in_channels, \\*s) -> (b, out_channels, \\*s)."""
        return self.layers(x)


class Reconstruction(nn.Module):
    """A variational decoder without dense layers: the latent is a grid, and every size of input can be reconstructed.

    Parameters
    ----------
    dims : int
        Spatial axes.
    features : sequence of int
        Channels of the encoder's stages, finest first, up to the one that is reconstructed from.
    strides : sequence of sequence of int
        With which each of these stages is entered.
    out_channels : int
        Channels of the image.
    hidden, latent : int
        Channels around the latent, and its own.
    groups : int
        Of the group normalisation.

    References
    ----------
    Weninger, Liu, Merhof, Multi-task Learning for Brain Tumor Segmentation, BrainLes 2019 (LNCS 11992), table 1.
    """

    def __init__(
        self,
        dims: int,
        features: Sequence[int],
        strides: Sequence[Sequence[int]],
        out_channels: int,
        *,
        hidden: int = 100,
        latent: int = 50,
        groups: int = 4,
    ) -> None:
        super().__init__()
        one = (1,) * dims
        self.mode = _LINEAR[dims]
        self.enter = convolution(dims, features[-1], hidden, one)
        self.mean = convolution(dims, hidden, latent, one)
        self.log_variance = convolution(dims, hidden, latent, one)
        self.leave = convolution(dims, latent, hidden, one)
        self.first = _Block(dims, hidden, features[-1], groups)
        levels = range(len(features) - 1, 0, -1)
        self.scales = [tuple(float(step) for step in strides[level]) for level in levels]
        self.mix = nn.ModuleList(convolution(dims, features[level], features[level], one) for level in levels)
        self.blocks = nn.ModuleList(_Block(dims, features[level], features[level - 1], groups) for level in levels)
        self.out = convolution(dims, features[0], out_channels, one)

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Draw all weights anew."""
        initialise(self, generator)

    def forward(self, x: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruct an image.

        Parameters
        ----------
        x : Tensor, shape (b, features[-1], \\*s)
            The encoder's features.
        size : sequence of int
            Spatial size of the image.

        Returns
        -------
        image : Tensor, shape (b, out_channels, \\*size)
        mean, log_variance : Tensor, shape (b, latent, \\*s)
            Of the latent's normal distribution. In training the image is made of a draw from it, else of its mean.
        """
        x = self.enter(x)
        mean, log_variance = self.mean(x), self.log_variance(x).clamp(-_LOG_VARIANCE, _LOG_VARIANCE)
        drawn = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean) if self.training else mean
        x = self.first(self.leave(drawn))
        for scale, mix, block in zip(self.scales, self.mix, self.blocks, strict=True):
            x = functional.interpolate(mix(x), scale_factor=scale, mode=self.mode)
            x = block(x)
        for axis, edge in enumerate(size, start=2):  # the encoder rounded an odd size up
            x = x.narrow(axis, 0, edge)
        return self.out(x), mean, log_variance


class PresenceClassifier(nn.Module):
    """Whether something is in the patch, from the features of the coarsest stage.

    Parameters
    ----------
    features : int
        Channels of the coarsest stage.
    grid : sequence of int
        Its size for the planned patch; that of another patch is pooled to it.
    channels : sequence of int
        Of the convolutions.
    hidden : int
        Of the dense layer.

    References
    ----------
    Weninger, Liu, Merhof, Multi-task Learning for Brain Tumor Segmentation, BrainLes 2019 (LNCS 11992), table 2.
    """

    def __init__(
        self,
        features: int,
        grid: Sequence[int],
        *,
        channels: Sequence[int] = (256, 128),
        hidden: int = 32,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        dims = len(grid)
        layers: list[nn.Module] = [_POOL[dims](tuple(grid))]
        for inside, outside in zip((features, *channels[:-1]), channels, strict=True):
            layers += [convolution(dims, inside, outside, (1,) * dims), nn.LeakyReLU(inplace=True)]
        dense = nn.Linear(channels[-1] * math.prod(grid), hidden)
        layers += [nn.Flatten(), dense, nn.LeakyReLU(inplace=True), nn.Dropout(dropout), nn.Linear(hidden, 2)]
        self.layers = nn.Sequential(*layers)

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Draw all weights anew."""
        initialise(self, generator)
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.kaiming_normal_(part.weight, generator=generator)
                nn.init.zeros_(part.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(b, features, \\*s) -> logits of absent and present, (b, 2)."""
        return self.layers(x)

"""The planned U-Nets layer by layer, as arithmetic: what memory and compute are counted from. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from bts_auto.errors import PlanError
from bts_auto.networks.options import PlainUNetOptions, ResidualUNetOptions, UNetOptions, per_stage
from bts_auto.plan.schema import SegmentationConfiguration

Size = tuple[int, ...]
# Activations that autograd lets overwrite their input.
_IN_PLACE = ("leaky_relu", "relu", "elu")


@dataclass(frozen=True)
class Layer:
    """One convolution with what follows it.

    Attributes
    ----------
    kind : str
        ``convolution``, ``upsampling`` (transposed, kernel equal to stride) or ``head``.
    in_channels, out_channels : int
    kernel : tuple of int
    in_size, out_size : tuple of int
        Spatial sizes.
    bias, norm : bool
        Whether it has a bias, and a normalisation with scale and shift.
    kept : int
        Numbers per sample that stay in memory for the backward pass after this layer has run (logits not counted).
    scale : int
        For heads: the resolution, 0 the finest.
    """

    kind: Literal["convolution", "upsampling", "head"]
    in_channels: int
    out_channels: int
    kernel: Size
    in_size: Size
    out_size: Size
    bias: bool
    norm: bool
    kept: int = 0
    scale: int = 0

    @property
    def parameters(self) -> int:
        """Trained numbers: weights, bias, scale and shift."""
        weights = self.in_channels * self.out_channels * math.prod(self.kernel)
        return weights + self.out_channels * (int(self.bias) + 2 * int(self.norm))

    @property
    def multiplications(self) -> int:
        """Multiplications of a forward pass of one sample."""
        size = self.in_size if self.kind == "upsampling" else self.out_size
        return math.prod(size) * self.in_channels * self.out_channels * math.prod(self.kernel)

    @property
    def in_elements(self) -> int:
        """Numbers of the input, per sample."""
        return self.in_channels * math.prod(self.in_size)

    @property
    def out_elements(self) -> int:
        """Numbers of the output, per sample."""
        return self.out_channels * math.prod(self.out_size)


class _Builder:
    """Appends layers as data flows through the network."""

    def __init__(self, options: UNetOptions, in_channels: int, size: Size) -> None:
        self.layers: list[Layer] = []
        self._options, self._channels, self._size = options, in_channels, size
        # Normalisation keeps the convolution's output; an activation that overwrites its input keeps that one tensor.
        self._norm = options.norm != "none"
        self._kept = 1 + int(self._norm) + int(options.activation not in _IN_PLACE)

    @property
    def at(self) -> tuple[int, Size]:
        """Channels and size of what has been computed last."""
        return self._channels, self._size

    def convolve(self, features: int, kernel: Size, stride: Size | None = None) -> None:
        """Convolution, normalisation, activation."""
        size = tuple(math.ceil(n / s) for n, s in zip(self._size, stride or (1,) * len(kernel), strict=True))
        kept = self._kept * features * math.prod(size)
        self._add("convolution", features, kernel, size, bias=self._options.conv_bias, norm=self._norm, kept=kept)

    def residual(self, features: int, kernel: Size, stride: Size | None = None) -> None:
        """A residual block; the sum of its branches takes the place of the second normalisation's output."""
        channels, size = self.at
        self.convolve(features, kernel, stride)
        self.convolve(features, kernel)
        if channels == features:
            return
        after = self._size
        pooled = channels * math.prod(after) if after != size else 0
        kept = int(self._norm) * features * math.prod(after) + pooled
        ones = (1,) * len(kernel)
        shape = (channels, features, ones, after, after)
        self.layers.append(Layer("convolution", *shape, bias=False, norm=self._norm, kept=kept))

    def ascend(self, features: int, stride: Size, skip: Size) -> None:
        """Upsample, then join with the encoder's features of the same width."""
        self._add("upsampling", features, stride, skip, bias=self._options.conv_bias, norm=False)
        last = self.layers.pop()
        self.layers.append(Layer(**{**vars(last), "kept": 2 * last.out_elements}))
        self._channels = 2 * features

    def head(self, n_outputs: int, scale: int) -> None:
        """A 1x1 convolution to logits; the features go on."""
        ones = (1,) * len(self._size)
        shape = (self._channels, n_outputs, ones, self._size, self._size)
        self.layers.append(Layer("head", *shape, bias=True, norm=False, scale=scale))

    def _add(
        self,
        kind: Literal["convolution", "upsampling"],
        features: int,
        kernel: Size,
        size: Size,
        *,
        bias: bool,
        norm: bool,
        kept: int = 0,
    ) -> None:
        self.layers.append(Layer(kind, self._channels, features, kernel, self._size, size, bias, norm, kept))
        self._channels, self._size = features, size


def unet_layers(configuration: SegmentationConfiguration, in_channels: int, n_outputs: int) -> tuple[Layer, ...]:
    """All layers of a configuration's network in the order in which they run, heads of all resolutions included.

    Raises
    ------
    PlanError
        When the network is none of the planned U-Nets, or cannot be built.
    """
    return network_layers(configuration.network_options(), configuration.patch_size, in_channels, n_outputs)


def network_layers(options: Any, patch_size: Size, in_channels: int, n_outputs: int) -> tuple[Layer, ...]:
    """All layers of a network of `options` on a patch; see :func:`unet_layers`."""
    if not isinstance(options, PlainUNetOptions | ResidualUNetOptions):
        raise PlanError(f"the size of a network of {type(options).__name__} cannot be predicted")
    options.check_planned(len(patch_size))
    builder = _Builder(options, in_channels, patch_size)
    skips = list(_encode(builder, options))
    counts = per_stage(options.n_conv_per_stage_decoder, options.n_stages - 1, "n_conv_per_stage_decoder")
    for stage, count in zip(reversed(range(options.n_stages - 1)), counts, strict=True):
        builder.ascend(options.features_per_stage[stage], options.strides[stage + 1], skips[stage])
        for _ in range(count):
            builder.convolve(options.features_per_stage[stage], options.kernel_sizes[stage])
        builder.head(n_outputs, stage)
    return tuple(builder.layers)


def _encode(builder: _Builder, options: PlainUNetOptions | ResidualUNetOptions) -> Iterator[Size]:
    """Build the encoder; yields the size at each stage."""
    residual = isinstance(options, ResidualUNetOptions)
    blocks = options.n_blocks_per_stage if isinstance(options, ResidualUNetOptions) else options.n_conv_per_stage
    counts = per_stage(blocks, options.n_stages, "blocks per stage")
    if residual:
        builder.convolve(options.features_per_stage[0], options.kernel_sizes[0])
    add = builder.residual if residual else builder.convolve
    stages = zip(options.features_per_stage, options.kernel_sizes, options.strides, counts, strict=True)
    for features, kernel, stride, count in stages:
        add(features, kernel, stride)
        for _ in range(count - 1):
            add(features, kernel)
        yield builder.at[1]

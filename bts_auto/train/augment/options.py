"""Options of the augmentations. No torch here, so that plans are validated without it.

The defaults are nnU-Net v2's values, so that a plan may name a transform and say nothing more.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from bts_auto.documents import Document


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if not all(math.isfinite(v) for v in value) or value[0] > value[1]:
        raise ValueError(f"a range is (lowest, highest), got {value}")
    return value


def _positive(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] <= 0:
        raise ValueError(f"both ends must be above 0, got {value}")
    return value


def _not_negative(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] < 0:
        raise ValueError(f"neither end may be below 0, got {value}")
    return value


def _share(value: tuple[float, float]) -> tuple[float, float]:
    if value[1] > 1:
        raise ValueError(f"neither end may be above 1, got {value}")
    return value


Probability = Annotated[float, Field(ge=0, le=1)]
Range = Annotated[tuple[float, float], AfterValidator(_ordered)]
PositiveRange = Annotated[tuple[float, float], AfterValidator(_ordered), AfterValidator(_positive)]
NonNegativeRange = Annotated[tuple[float, float], AfterValidator(_ordered), AfterValidator(_not_negative)]


class TransformOptions(Document):
    """What every transform has."""

    probability: Probability = Field(1.0, description="share of samples that it is applied to")


class ChannelOptions(TransformOptions):
    """What every transform of single channels has."""

    probability_per_channel: Probability = Field(1.0, description="share of the channels of such a sample")
    synchronize_channels: bool = Field(False, description="one value for all channels of a sample")


class SpatialOptions(Document):
    """Rotation, scaling and elastic deformation, in one interpolation."""

    probability_rotation: Probability = 0.2
    rotation: Range = Field((-math.pi / 6, math.pi / 6), description="radians, drawn for each axis")
    probability_scaling: Probability = 0.2
    scaling: PositiveRange = Field((0.7, 1.4), description="edge of what is read over edge of the patch")
    isotropic: bool = Field(True, description="one scale for all axes")
    in_plane: bool = Field(False, description="leave the first axis alone (strongly anisotropic patches)")
    probability_elastic: Probability = 0.0
    elastic_spacing: PositiveRange = Field((0.2, 0.5), description="distance of control points as a share of the patch")
    elastic_magnitude: NonNegativeRange = Field((0.0, 0.1), description="largest shift over distance of control points")


class GaussianNoiseOptions(ChannelOptions):
    """White noise; `sigma` in units of the normalised image."""

    probability: Probability = 0.1
    synchronize_channels: bool = True
    sigma: NonNegativeRange = (0.0, 0.1)


class GaussianBlurOptions(ChannelOptions):
    """Gaussian blur; `sigma` in voxels."""

    probability: Probability = 0.2
    probability_per_channel: Probability = 0.5
    synchronize_axes: bool = False
    sigma: PositiveRange = (0.5, 1.0)


class BrightnessOptions(ChannelOptions):
    """Multiplication by a factor; below 1 and above 1 are equally likely."""

    probability: Probability = 0.15
    factor: PositiveRange = (0.75, 1.25)


class BrightnessShiftOptions(ChannelOptions):
    """Addition of a normal offset; `sigma`, its standard deviation, in units of the normalised image."""

    probability: Probability = 0.15
    probability_per_channel: Probability = 0.5
    sigma: float = Field(0.1, ge=0)


class ContrastOptions(ChannelOptions):
    """Stretching about the mean; below 1 and above 1 are equally likely."""

    probability: Probability = 0.15
    factor: PositiveRange = (0.75, 1.25)
    preserve_range: bool = Field(True, description="clip to the range from before")


class LowResolutionOptions(ChannelOptions):
    """Simulated coarser sampling; `scale` is the share of the voxels kept along an axis."""

    probability: Probability = 0.25
    probability_per_channel: Probability = 0.5
    synchronize_axes: bool = True
    ignore_axes: tuple[int, ...] = ()
    scale: PositiveRange = (0.5, 1.0)


class GammaOptions(ChannelOptions):
    """Power law on the range of a channel; below 1 and above 1 are equally likely."""

    probability: Probability = 0.3
    gamma: PositiveRange = (0.7, 1.5)
    invert: bool = Field(False, description="on the negative image")
    retain_stats: bool = Field(True, description="keep mean and standard deviation")


class MirrorOptions(Document):
    """Reversal of axes, each on its own."""

    axes: tuple[Annotated[int, Field(ge=0, le=2)], ...] = ()
    probability_per_axis: Probability = 0.5


class MaskOutsideOptions(Document):
    """Set channels to `value` outside the brain (where the stored mask is negative)."""

    channels: tuple[Annotated[int, Field(ge=0)], ...] = ()
    value: float = 0.0


class PreviousMorphologyOptions(TransformOptions):
    """Dilate, erode, open or close labels of the previous stage's mask."""

    labels: tuple[Annotated[int, Field(ge=1)], ...]
    probability: Probability = 0.4
    probability_per_label: Probability = 0.5
    radius: NonNegativeRange = Field((1.0, 8.0), description="voxels")
    operations: tuple[Literal["dilate", "erode", "open", "close"], ...] = Field(
        ("dilate", "erode", "close", "open"), min_length=1
    )


class PreviousDropOptions(TransformOptions):
    """Remove one connected component of labels of the previous stage's mask."""

    labels: tuple[Annotated[int, Field(ge=1)], ...]
    probability: Probability = 0.2
    probability_per_label: Probability = 0.5
    largest_share: Probability = Field(0.15, description="components above this share of the patch stay")


class BiasFieldOptions(ChannelOptions):
    """Smooth multiplicative inhomogeneity of the coil; `strength` is the largest change of log intensity."""

    probability: Probability = 0.15
    strength: NonNegativeRange = (0.1, 0.5)
    spacing: PositiveRange = Field((0.3, 0.6), description="distance of control points over the patch's edge")


class BrightnessGradientOptions(ChannelOptions):
    """A Gaussian hill or valley added around a random point."""

    probability: Probability = 0.15
    width: PositiveRange = Field((0.25, 1.0), description="standard deviation over the patch's edge")
    strength: NonNegativeRange = Field((0.25, 1.0), description="height in standard deviations of the channel")


class LocalGammaOptions(ChannelOptions):
    """A power law that acts around a random point and fades with distance."""

    probability: Probability = 0.15
    width: PositiveRange = Field((0.25, 1.0), description="standard deviation over the patch's edge")
    gamma: PositiveRange = (0.5, 2.0)


class CutOutOptions(TransformOptions):
    """Boxes of the image replaced by the channel's mean; the mask stays."""

    probability: Probability = 0.1
    boxes: int = Field(2, ge=1, le=64)
    edge: PositiveRange = Field((0.1, 0.3), description="edge of a box over the patch's edge")


class PositiveMiningOptions(TransformOptions):
    """Everything but the tumour blanked out."""

    probability: Probability = 0.1
    scale: PositiveRange = Field((0.9, 1.1), description="of the tumour's outline before all outside it is blanked")
    rescale_label: bool = Field(False, description="scale the labels too")
    labels: tuple[Annotated[int, Field(ge=1)], ...] = Field((), description="what is tumour; none: every label")
    value: float = Field(0.0, description="of the image where it is blanked")


class HistogramMatchingOptions(TransformOptions):
    """The intensities of another training case, drawn anew for each sample."""

    probability: Probability = 0.15
    strength: Annotated[NonNegativeRange, AfterValidator(_share)] = Field(
        (1.0, 1.0), description="share of the way from the case's own intensities to the other's"
    )


class GhostingOptions(ChannelOptions):
    """Copies of the head along an axis, from periodic motion."""

    probability: Probability = 0.1
    ghosts: Annotated[tuple[int, int], AfterValidator(_ordered), AfterValidator(_positive)] = Field(
        (3, 8), description="copies along the axis"
    )
    strength: NonNegativeRange = (0.1, 0.4)


class SpikeOptions(ChannelOptions):
    """Stripes from one bad sample of k-space; `strength` over the standard deviation of the channel."""

    probability: Probability = 0.1
    strength: NonNegativeRange = (0.1, 0.5)


class MotionOptions(ChannelOptions):
    """The head moves once during the scan: part of k-space belongs to a shifted head."""

    probability: Probability = 0.1
    shift: NonNegativeRange = Field((0.5, 3.0), description="voxels along each axis, either way")
    share: NonNegativeRange = Field((0.1, 0.45), description="share of k-space acquired after the movement")

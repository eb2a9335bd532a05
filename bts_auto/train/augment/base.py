"""What a transform is, and how its parameters are drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from bts_auto.train.augment.intensities import CaseIntensities
from bts_auto.train.augment.options import ChannelOptions

# A value for each channel that is changed; what the value is depends on the transform.
ByChannel = tuple[tuple[int, Any], ...]


@dataclass(frozen=True)
class Surroundings:
    """What a transform may know besides its options and the sample.

    Attributes
    ----------
    patch_size : tuple of int
        Spatial size of the patches, 2 or 3 axes.
    intensities : CaseIntensities, optional
        Of the cases that are trained on.
    """

    patch_size: tuple[int, ...]
    intensities: CaseIntensities | None = None


class Transform(Protocol):
    """One step of an augmentation.

    `draw` decides everything at random, `apply` then only computes, so that a sample can be planned before it is read
    and repeated at any time. A transform that looks at other cases has ``draw_for(rng, case)`` instead of `draw`, and
    one that needs its surroundings is made by a class method ``build(options, surroundings)``.

    Where several samples are augmented at once, ``apply_batch(image, mask, parameters)``, if there is one, does what
    `apply` does to each: image (b, c, \\*s), mask (b, m, \\*s), and parameters with the number of their sample.
    """

    def draw(self, rng: np.random.Generator, channels: int) -> Any | None:
        """The parameters for one sample of an image with `channels` channels; None: leave it as it is."""

    def apply(self, image: torch.Tensor, mask: torch.Tensor, parameters: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Change image (c, \\*s) float32 and mask (m, \\*s) int16; both may be overwritten."""


@dataclass(frozen=True)
class Planes:
    """Channels of several samples that one transform changes, each with its parameters.

    Attributes
    ----------
    samples, channels : list of int
    values : list
        What :class:`Transform.draw` has drawn for each of them.
    """

    samples: list[int]
    channels: list[int]
    values: list[Any]

    @classmethod
    def of(cls, parameters: Sequence[tuple[int, ByChannel]]) -> Planes:
        """From the parameters of each sample, which is named by its number."""
        every = [(sample, channel, value) for sample, drawn in parameters for channel, value in drawn]
        samples, channels, values = (list(column) for column in zip(*every, strict=True))
        return cls(samples, channels, values)

    def take(self, image: torch.Tensor) -> torch.Tensor:
        """A copy of the channels, (b, c, \\*s) -> (n, \\*s)."""
        return image[self.samples, self.channels]

    def put(self, image: torch.Tensor, planes: torch.Tensor) -> None:
        """Write the channels back."""
        image[self.samples, self.channels] = planes

    def column(self, image: torch.Tensor, values: Sequence[float] | None = None) -> torch.Tensor:
        """A number for each of the channels (the drawn ones), shaped to be broadcast over them."""
        numbers = torch.tensor(self.values if values is None else values, dtype=image.dtype, device=image.device)
        return numbers.view(-1, *[1] * (image.ndim - 2))


def happens(rng: np.random.Generator, probability: float) -> bool:
    """True in this share of calls."""
    return rng.random() < probability


def draw_uniform(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    """A number between the bounds."""
    return float(rng.uniform(*bounds))


def draw_factor(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    """A factor that lies below 1 as often as above, whatever the lengths of the two parts of the range.

    A range that lies on one side of 1 is used as it stands.
    """
    low, high = bounds
    if low >= 1 or high <= 1:
        return draw_uniform(rng, bounds)
    return draw_uniform(rng, (low, 1.0)) if happens(rng, 0.5) else draw_uniform(rng, (1.0, high))


def draw_by_channel(
    rng: np.random.Generator, options: ChannelOptions, channels: int, draw: Callable[[], Any]
) -> ByChannel | None:
    """Decide whether a sample, then which of its channels are changed, and draw a value for each."""
    if not happens(rng, options.probability):
        return None
    chosen = np.flatnonzero(rng.random(channels) < options.probability_per_channel)
    if options.synchronize_channels:
        value = draw()
        return tuple((int(channel), value) for channel in chosen) or None
    return tuple((int(channel), draw()) for channel in chosen) or None


def draw_seed(rng: np.random.Generator) -> int:
    """A seed for a generator of another library."""
    return int(rng.integers(2**63 - 1))

"""Brightness: multiplication by a factor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from bts_auto.train.augment.base import ByChannel, Planes, draw_by_channel, draw_factor
from bts_auto.train.augment.options import BrightnessOptions


class Brightness:
    """Multiply channels by a factor."""

    def __init__(self, options: BrightnessOptions) -> None:
        self.options = options

    def draw(self, rng: np.random.Generator, channels: int) -> ByChannel | None:
        """A factor per channel."""
        return draw_by_channel(rng, self.options, channels, lambda: draw_factor(rng, self.options.factor))

    def apply(
        self, image: torch.Tensor, mask: torch.Tensor, parameters: ByChannel
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Multiply in place."""
        for channel, factor in parameters:
            image[channel].mul_(factor)
        return image, mask

    def apply_batch(
        self, image: torch.Tensor, mask: torch.Tensor, parameters: Sequence[tuple[int, ByChannel]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Multiply in place."""
        planes = Planes.of(parameters)
        planes.put(image, planes.take(image).mul_(planes.column(image)))
        return image, mask

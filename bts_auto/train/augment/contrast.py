"""Contrast: stretching about the mean."""

from __future__ import annotations

import numpy as np
import torch

from bts_auto.train.augment.base import ByChannel, draw_by_channel, draw_factor
from bts_auto.train.augment.options import ContrastOptions


class Contrast:
    """Multiply the distance of each voxel from its channel's mean by a factor."""

    def __init__(self, options: ContrastOptions) -> None:
        self.options = options

    def draw(self, rng: np.random.Generator, channels: int) -> ByChannel | None:
        """A factor per channel."""
        return draw_by_channel(rng, self.options, channels, lambda: draw_factor(rng, self.options.factor))

    def apply(
        self, image: torch.Tensor, mask: torch.Tensor, parameters: ByChannel
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Stretch in place."""
        for channel, factor in parameters:
            values = image[channel]
            # The statistics stay tensors: reading them as numbers would make a GPU wait for each channel.
            mean, (low, high) = values.mean(), torch.aminmax(values)
            torch.lerp(mean, values, factor, out=values)
            if self.options.preserve_range:
                values.clamp_(low, high)
        return image, mask

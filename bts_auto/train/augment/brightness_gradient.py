"""A local hill or valley of brightness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from bts_auto.train.augment.base import ByChannel, draw_by_channel, draw_uniform, happens
from bts_auto.train.augment.fields import hill
from bts_auto.train.augment.options import BrightnessGradientOptions


@dataclass(frozen=True)
class Slope:
    """Place and width as shares of the patch, height in standard deviations of the channel."""

    centre: tuple[float, float, float]
    width: float
    height: float


class BrightnessGradient:
    """Add a Gaussian around a random point."""

    def __init__(self, options: BrightnessGradientOptions) -> None:
        self.options = options

    def draw(self, rng: np.random.Generator, channels: int) -> ByChannel | None:
        """A hill per channel; the point may lie outside the patch, which then gets a slope."""

        def slope() -> Slope:
            z, y, x = rng.uniform(-0.5, 1.5, 3).tolist()
            height = draw_uniform(rng, self.options.strength) * (1 if happens(rng, 0.5) else -1)
            return Slope((z, y, x), draw_uniform(rng, self.options.width), height)

        return draw_by_channel(rng, self.options, channels, slope)

    def apply(
        self, image: torch.Tensor, mask: torch.Tensor, parameters: ByChannel
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add in place."""
        for channel, slope in parameters:
            values = image[channel]
            shape = hill(tuple(values.shape), slope.centre[-values.ndim :], slope.width, image.device)
            values.addcmul_(shape, values.std() * slope.height)
        return image, mask

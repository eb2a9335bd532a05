"""A power law that acts in one place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from bts_auto.train.augment.base import ByChannel, draw_by_channel, draw_factor, draw_uniform
from bts_auto.train.augment.fields import hill
from bts_auto.train.augment.options import LocalGammaOptions

_SMALLEST = 1e-7


@dataclass(frozen=True)
class Spot:
    """Place and width as shares of the patch, and the exponent there."""

    centre: tuple[float, float, float]
    width: float
    gamma: float


class LocalGamma:
    """Mix a channel with its gamma-corrected self by a Gaussian weight around a random point."""

    def __init__(self, options: LocalGammaOptions) -> None:
        self.options = options

    def draw(self, rng: np.random.Generator, channels: int) -> ByChannel | None:
        """A spot per channel."""

        def spot() -> Spot:
            z, y, x = rng.uniform(0, 1, 3).tolist()
            return Spot((z, y, x), draw_uniform(rng, self.options.width), draw_factor(rng, self.options.gamma))

        return draw_by_channel(rng, self.options, channels, spot)

    def apply(
        self, image: torch.Tensor, mask: torch.Tensor, parameters: ByChannel
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Change channels in place."""
        for channel, spot in parameters:
            values = image[channel]
            weight = hill(tuple(values.shape), spot.centre[-values.ndim :], spot.width, image.device)
            low, high = torch.aminmax(values)
            extent = (high - low).clamp_(min=_SMALLEST)
            changed = ((values - low) / extent).pow_(spot.gamma).mul_(extent).add_(low)
            values.lerp_(changed, weight)
        return image, mask

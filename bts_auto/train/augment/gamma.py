"""Gamma: a power law on the range of a channel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from bts_auto.train.augment.base import ByChannel, Planes, draw_by_channel, draw_factor
from bts_auto.train.augment.options import GammaOptions

_SMALLEST = 1e-7  # below this a range or a standard deviation counts as this, so that constants stay constant


def _mean_and_std(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation as tensors, by sums in float64 (about 8 times faster than torch.std_mean)."""
    mean = values.mean(dtype=torch.float64)
    variance = (values * values).mean(dtype=torch.float64) - mean * mean
    return mean.float(), variance.clamp_(min=0).sqrt_().float()


class Gamma:
    """Raise each channel, scaled to 0..1, to a power and scale it back."""

    def __init__(self, options: GammaOptions) -> None:
        self.options = options

    def draw(self, rng: np.random.Generator, channels: int) -> ByChannel | None:
        """An exponent per channel."""
        return draw_by_channel(rng, self.options, channels, lambda: draw_factor(rng, self.options.gamma))

    def apply(
        self, image: torch.Tensor, mask: torch.Tensor, parameters: ByChannel
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Change channels in place."""
        for channel, gamma in parameters:
            self._apply(image[channel], gamma)
        return image, mask

    def apply_batch(
        self, image: torch.Tensor, mask: torch.Tensor, parameters: Sequence[tuple[int, ByChannel]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Change channels in place."""
        planes = Planes.of(parameters)
        values = planes.take(image)
        axes = tuple(range(1, values.ndim))
        low, high = values.amin(axes, keepdim=True), values.amax(axes, keepdim=True)
        start = high if self.options.invert else low
        extent = (high - low).clamp_(min=_SMALLEST) * (-1 if self.options.invert else 1)
        powers = ((values - start) / extent).pow_(planes.column(image))
        scale = extent
        if self.options.retain_stats:
            (std, mean), (std_now, mean_now) = (
                torch.std_mean(v, axes, correction=0, keepdim=True) for v in (values, powers)
            )
            scale = std / (std_now * extent.abs()).clamp_(min=_SMALLEST) * extent
            start = mean - mean_now * scale
        planes.put(image, torch.addcmul(start, powers, scale))
        return image, mask

    def _apply(self, values: torch.Tensor, gamma: float) -> None:
        low, high = torch.aminmax(values)
        start = high if self.options.invert else low
        # The negative image falls from `high`: a negative range scales it to 0..1 and back without negating twice.
        extent = (high - low).clamp_(min=_SMALLEST)
        extent = -extent if self.options.invert else extent
        if self.options.retain_stats:
            mean, std = _mean_and_std(values)
        # Subtract first: the power law magnifies rounding errors near 0.
        values.sub_(start).div_(extent).pow_(gamma)
        if self.options.retain_stats:
            mean_now, std_now = _mean_and_std(values)
            scale = std / (std_now * extent.abs()).clamp_(min=_SMALLEST) * extent
            start = mean - mean_now * scale
        else:
            scale = extent
        torch.addcmul(start, values, scale, out=values)

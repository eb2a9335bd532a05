"""White Gaussian noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from bts_auto.train.augment.base import ByChannel, draw_by_channel, draw_seed, draw_uniform
from bts_auto.train.augment.options import GaussianNoiseOptions


@dataclass(frozen=True)
class NoiseParameters:
    """The standard deviation for each channel and the seed of the noise itself."""

    sigmas: ByChannel
    seed: int


class GaussianNoise:
    """Add independent normal noise to every voxel."""

    def __init__(self, options: GaussianNoiseOptions) -> None:
        self.options = options

    def draw(self, rng: np.random.Generator, channels: int) -> NoiseParameters | None:
        """A standard deviation per channel."""
        sigmas = draw_by_channel(rng, self.options, channels, lambda: draw_uniform(rng, self.options.sigma))
        return None if sigmas is None else NoiseParameters(sigmas, draw_seed(rng))

    def apply(
        self, image: torch.Tensor, mask: torch.Tensor, parameters: NoiseParameters
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add it in place."""
        generator = torch.Generator(image.device).manual_seed(parameters.seed)
        noise = torch.empty_like(image[0])
        for channel, sigma in parameters.sigmas:
            image[channel].add_(noise.normal_(generator=generator), alpha=sigma)
        return image, mask

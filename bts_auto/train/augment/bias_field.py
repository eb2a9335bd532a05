"""Bias field: smooth inhomogeneity of the coil's sensitivity.

References
----------
Sled, Zijdenbos, Evans: A nonparametric method for automatic correction of intensity nonuniformity in MRI data. IEEE TMI
17(1), 1998: the field is smooth and multiplies the signal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from bts_auto.train.augment.base import ByChannel, draw_by_channel, draw_seed, draw_uniform
from bts_auto.train.augment.fields import smooth_noise
from bts_auto.train.augment.options import BiasFieldOptions


@dataclass(frozen=True)
class Field:
    """Largest change of log intensity, distance of control points over the edge, and the seed of the field."""

    strength: float
    spacing: float
    seed: int


class BiasField:
    """Multiply what lies above a channel's lowest value by the exponential of a smooth random field."""

    def __init__(self, options: BiasFieldOptions) -> None:
        self.options = options

    def draw(self, rng: np.random.Generator, channels: int) -> ByChannel | None:
        """A field per channel."""

        def field() -> Field:
            strength = draw_uniform(rng, self.options.strength)
            return Field(strength, draw_uniform(rng, self.options.spacing), draw_seed(rng))

        return draw_by_channel(rng, self.options, channels, field)

    def apply(
        self, image: torch.Tensor, mask: torch.Tensor, parameters: ByChannel
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Change channels in place; normalised images are negative in places, so the lowest value is the zero."""
        size = tuple(image.shape[1:])
        for channel, field in parameters:
            values = image[channel]
            spacing = tuple(max(1.0, field.spacing * n) for n in size)
            factor = smooth_noise(size, spacing, 1, field.seed)[0].to(image.device).mul_(field.strength).exp_()
            lowest = values.min()
            values.sub_(lowest).mul_(factor).add_(lowest)
        return image, mask

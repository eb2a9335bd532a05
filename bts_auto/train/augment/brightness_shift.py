"""Brightness: addition of an offset."""

from __future__ import annotations

import numpy as np
import torch

from bts_auto.train.augment.base import ByChannel, draw_by_channel
from bts_auto.train.augment.options import BrightnessShiftOptions


class BrightnessShift:
    """Add an offset to channels.

    References
    ----------
    Isensee et al., nnU-Net for Brain Tumor Segmentation, BrainLes 2020 (LNCS 12659), section 2.2.
    """

    def __init__(self, options: BrightnessShiftOptions) -> None:
        self.options = options

    def draw(self, rng: np.random.Generator, channels: int) -> ByChannel | None:
        """An offset per channel."""
        return draw_by_channel(rng, self.options, channels, lambda: float(rng.normal(0.0, self.options.sigma)))

    def apply(
        self, image: torch.Tensor, mask: torch.Tensor, parameters: ByChannel
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add in place."""
        for channel, offset in parameters:
            image[channel].add_(offset)
        return image, mask

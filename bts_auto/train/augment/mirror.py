"""Mirroring along axes."""

from __future__ import annotations

import numpy as np
import torch

from bts_auto.train.augment.options import MirrorOptions


class Mirror:
    """Reverse axes."""

    def __init__(self, options: MirrorOptions) -> None:
        self.options = options

    def draw(self, rng: np.random.Generator, channels: int) -> tuple[int, ...] | None:
        """The spatial axes to reverse."""
        chosen = rng.random(len(self.options.axes)) < self.options.probability_per_axis
        return tuple(axis for axis, yes in zip(self.options.axes, chosen, strict=True) if yes) or None

    def apply(
        self, image: torch.Tensor, mask: torch.Tensor, parameters: tuple[int, ...]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Reverse image and mask alike."""
        axes = [axis + 1 for axis in parameters]
        return image.flip(axes), mask.flip(axes)

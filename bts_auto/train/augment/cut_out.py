"""Cut-out: boxes of the image are hidden.

References
----------
DeVries, Taylor: Improved Regularization of Convolutional Neural Networks with Cutout. arXiv:1708.04552, 2017.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from bts_auto.train.augment.base import draw_uniform, happens
from bts_auto.train.augment.options import CutOutOptions


@dataclass(frozen=True)
class Hole:
    """Centre and edge along (z, y, x), as shares of the patch; 2D uses the last two."""

    centre: tuple[float, float, float]
    edge: tuple[float, float, float]


class CutOut:
    """Replace boxes by the mean of each channel; the mask keeps its labels, which the context has to give away."""

    def __init__(self, options: CutOutOptions) -> None:
        self.options = options

    def draw(self, rng: np.random.Generator, channels: int) -> tuple[Hole, ...] | None:
        """The boxes."""
        if not happens(rng, self.options.probability):
            return None
        holes = []
        for _ in range(self.options.boxes):
            z, y, x = rng.uniform(0, 1, 3).tolist()
            a, b, c = (draw_uniform(rng, self.options.edge) for _ in range(3))
            holes.append(Hole((z, y, x), (a, b, c)))
        return tuple(holes)

    def apply(
        self, image: torch.Tensor, mask: torch.Tensor, parameters: tuple[Hole, ...]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Hide in place."""
        size = image.shape[1:]
        means = image.flatten(1).mean(1).view(-1, *[1] * len(size))
        for hole in parameters:
            box = [slice(None)]
            for n, centre, edge in zip(size, hole.centre[-len(size) :], hole.edge[-len(size) :], strict=True):
                first = max(0, round((centre - edge / 2) * n))
                box.append(slice(first, max(first + 1, round((centre + edge / 2) * n))))
            image[tuple(box)] = means
        return image, mask

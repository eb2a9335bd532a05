"""Positive mining: samples in which nothing but the tumour is left.

References
----------
Deeply supervised attention U-Net with "positive mining", BrainLes 2021, LNCS 12962, pp. 431-440.
"""

from __future__ import annotations

import numpy as np
import torch

from bts_auto.train.augment.base import draw_uniform, happens
from bts_auto.train.augment.options import PositiveMiningOptions


class PositiveMining:
    """Blank the image outside the foreground, whose outline is first made a little larger or smaller.

    The outline is scaled about the centre of the foreground's bounding box. A sample without foreground stays as it is.
    """

    def __init__(self, options: PositiveMiningOptions) -> None:
        self.options = options

    def draw(self, rng: np.random.Generator, channels: int) -> float | None:
        """The scale of the outline."""
        if not happens(rng, self.options.probability):
            return None
        return draw_uniform(rng, self.options.scale)

    def apply(self, image: torch.Tensor, mask: torch.Tensor, parameters: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Blank in place; the mask keeps its labels, unless they are to be scaled too."""
        labels = mask[0]
        inside = self._foreground(labels)
        if not inside.any():
            return image, mask
        scaled = labels.clone()
        beyond = torch.zeros_like(inside)
        for axis in range(labels.ndim):
            source, outside = _source(inside, axis, parameters)
            scaled = scaled.index_select(axis, source)
            beyond |= outside.view([-1 if other == axis else 1 for other in range(labels.ndim)])
        scaled = scaled.masked_fill(beyond, 0)
        kept = self._foreground(scaled)
        image.masked_fill_(~kept, self.options.value)
        if self.options.rescale_label:
            mask[0] = torch.where(kept, scaled, torch.where(inside, 0, labels))
        return image, mask

    def _foreground(self, labels: torch.Tensor) -> torch.Tensor:
        if not self.options.labels:
            return labels > 0
        wanted = torch.tensor(self.options.labels, dtype=labels.dtype, device=labels.device)
        return torch.isin(labels, wanted)


def _source(inside: torch.Tensor, axis: int, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """For each position of an axis the one that lands there, and whether that lies outside the patch."""
    others = [other for other in range(inside.ndim) if other != axis]
    filled = inside.any(dim=others).nonzero()[:, 0] if others else inside.nonzero()[:, 0]
    centre = float(filled[0] + filled[-1]) / 2
    size = inside.shape[axis]
    at = ((torch.arange(size, device=inside.device) - centre) / scale + centre).round().long()
    return at.clamp(0, size - 1), (at < 0) | (at >= size)

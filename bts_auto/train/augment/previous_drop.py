"""Drop a connected component from the previous stage's mask, as if that stage had missed it."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from bts_auto.train.augment.base import happens
from bts_auto.train.augment.options import PreviousDropOptions

# Labels to thin out, each with the place (0..1) of the component in the list of those that may go.
Drops = tuple[tuple[int, float], ...]


class PreviousDrop:
    """Set one random component of labels of the previous mask to background."""

    def __init__(self, options: PreviousDropOptions) -> None:
        self.options = options

    def draw(self, rng: np.random.Generator, channels: int) -> Drops | None:
        """The labels, and which of their components (how many there are is not known yet)."""
        if not happens(rng, self.options.probability):
            return None
        chosen = [label for label in self.options.labels if happens(rng, self.options.probability_per_label)]
        return tuple((label, float(rng.random())) for label in chosen) or None

    def apply(self, image: torch.Tensor, mask: torch.Tensor, parameters: Drops) -> tuple[torch.Tensor, torch.Tensor]:
        """Change ``mask[1:]`` (on the CPU, wherever it lies)."""
        for previous in mask[1:]:
            labels = previous.cpu().numpy().copy()
            for label, place in parameters:
                self._drop(labels, label, place)
            previous.copy_(torch.from_numpy(labels))
        return image, mask

    def _drop(self, labels: np.ndarray, label: int, place: float) -> None:
        everywhere = np.ones((3,) * labels.ndim)
        components, _ = ndimage.label(labels == label, structure=everywhere)
        sizes = np.bincount(components.ravel())[1:]
        small = np.flatnonzero(sizes < self.options.largest_share * labels.size) + 1
        if len(small):
            labels[components == small[int(place * len(small))]] = 0

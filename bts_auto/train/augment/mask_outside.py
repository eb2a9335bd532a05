"""Set the outside of the brain back to one value, after transforms that have changed it."""

from __future__ import annotations

import numpy as np
import torch

from bts_auto.train.augment.options import MaskOutsideOptions


class MaskOutside:
    """Give channels one value where the mask is negative, as normalisation inside the brain mask had done."""

    def __init__(self, options: MaskOutsideOptions) -> None:
        self.options = options

    def draw(self, rng: np.random.Generator, channels: int) -> tuple[int, ...] | None:
        """Nothing is random: the channels."""
        return self.options.channels or None

    def apply(
        self, image: torch.Tensor, mask: torch.Tensor, parameters: tuple[int, ...]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Overwrite in place."""
        outside = mask[0] < 0
        for channel in parameters:
            image[channel].masked_fill_(outside, self.options.value)
        return image, mask

"""Simulated acquisition at a lower resolution."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import interpolate

from bts_auto.train.augment.base import ByChannel, draw_by_channel, draw_uniform
from bts_auto.train.augment.options import LowResolutionOptions

_DIMS = 3
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


class LowResolution:
    """Keep only some voxels of a channel (nearest neighbours) and interpolate the others linearly from them."""

    def __init__(self, options: LowResolutionOptions) -> None:
        self.options = options

    def draw(self, rng: np.random.Generator, channels: int) -> ByChannel | None:
        """Scales per channel, one for each axis."""

        def scales() -> tuple[float, ...]:
            if self.options.synchronize_axes:
                drawn = [draw_uniform(rng, self.options.scale)] * _DIMS
            else:
                drawn = [draw_uniform(rng, self.options.scale) for _ in range(_DIMS)]
            return tuple(1.0 if axis in self.options.ignore_axes else drawn[axis] for axis in range(_DIMS))

        return draw_by_channel(rng, self.options, channels, scales)

    def apply(
        self, image: torch.Tensor, mask: torch.Tensor, parameters: ByChannel
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Coarsen channels of the image."""
        size = tuple(image.shape[1:])
        for channel, scales in parameters:
            coarse = [max(1, round(n * scale)) for n, scale in zip(size, scales, strict=False)]
            if coarse == list(size):
                continue
            kept = interpolate(image[channel][None, None], coarse, mode="nearest-exact")
            image[channel].copy_(interpolate(kept, size, mode=_LINEAR[len(size)], align_corners=False)[0, 0])
        return image, mask

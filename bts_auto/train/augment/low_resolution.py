"""Simulated acquisition at a lower resolution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import interpolate

from bts_auto.train.augment.base import ByChannel, Planes, draw_by_channel, draw_uniform
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

    def apply_batch(
        self, image: torch.Tensor, mask: torch.Tensor, parameters: Sequence[tuple[int, ByChannel]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Coarsen channels of the images, one axis after another."""
        planes = Planes.of(parameters)
        values = planes.take(image)
        for axis, size in enumerate(values.shape[1:], start=1):
            coarse = [max(1, round(size * scales[axis - 1])) for scales in planes.values]
            tables = [np.stack(column) for column in zip(*(_kept(size, n) for n in coarse), strict=True)]
            below, above, share = (torch.from_numpy(table).to(values.device) for table in tables)
            shape = [len(coarse), *(size if other == axis else 1 for other in range(1, values.ndim))]
            low, high = (values.gather(axis, one.view(shape).expand(values.shape)) for one in (below, above))
            values = torch.lerp(low, high, share.view(shape))
        planes.put(image, values)
        return image, mask


def _kept(size: int, coarse: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of `size` voxels the kept ones below and above it, of `coarse` that are kept, and its place between."""
    nearest = np.minimum(((np.arange(coarse) + 0.5) * size / coarse).astype(np.int64), size - 1)
    place = np.clip((np.arange(size) + 0.5) * coarse / size - 0.5, 0, None)
    below = np.minimum(place.astype(np.int64), coarse - 1)
    above = np.minimum(below + 1, coarse - 1)
    return nearest[below], nearest[above], (place - below).astype(np.float32)

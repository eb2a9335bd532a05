"""Gaussian blur."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import pad

from bts_auto.train.augment.base import ByChannel, Planes, draw_by_channel, draw_uniform
from bts_auto.train.augment.options import GaussianBlurOptions

# The kernel is as wide as 6 standard deviations, rounded to the nearest odd number of voxels (nnU-Net's choice).
_WIDTH_IN_SIGMAS = 6
_DIMS = 3  # widths are drawn for this many axes, so that parameters do not depend on the patch


def kernel_radius(sigma: float) -> int:
    """Voxels on each side of the centre: half of 6 sigma rounded to an odd width, at least 1."""
    return max(1, round((_WIDTH_IN_SIGMAS * sigma - 0.5) / 2))


def _weights(sigma: float, radius: int) -> np.ndarray:
    """Of the voxel itself and of those at a distance of 1 to `radius` on each side."""
    weights = np.exp(-0.5 * (np.arange(radius + 1) / sigma) ** 2)
    return weights / (weights[0] + 2 * weights[1:].sum())


def blur_axis(values: torch.Tensor, sigma: float, axis: int) -> torch.Tensor:
    """Convolve (\\*s) with a normalised Gaussian along one axis; the border is reflected (without repeating it).

    Sums of shifted copies: for these few taps about 8 times faster on a CPU than a convolution of one channel. An axis
    that is too short to be reflected gets a narrower kernel.
    """
    size = values.shape[axis]
    radius = min(kernel_radius(sigma), size - 1)
    if radius < 1:
        return values
    weights = _weights(sigma, radius)
    widths = [0, 0] * (values.ndim - 1 - axis) + [radius, radius] + [0, 0] * axis
    padded = pad(values[None, None], widths, mode="reflect")[0, 0]
    out = padded.narrow(axis, radius, size) * float(weights[0])
    for shift in range(1, radius + 1):
        out.add_(padded.narrow(axis, radius - shift, size), alpha=float(weights[shift]))
        out.add_(padded.narrow(axis, radius + shift, size), alpha=float(weights[shift]))
    return out


class GaussianBlur:
    """Blur channels, each with its own width along each axis."""

    def __init__(self, options: GaussianBlurOptions) -> None:
        self.options = options

    def draw(self, rng: np.random.Generator, channels: int) -> ByChannel | None:
        """Standard deviations per channel, one for each axis."""

        def sigmas() -> tuple[float, ...]:
            if self.options.synchronize_axes:
                return (draw_uniform(rng, self.options.sigma),) * _DIMS
            return tuple(draw_uniform(rng, self.options.sigma) for _ in range(_DIMS))

        return draw_by_channel(rng, self.options, channels, sigmas)

    def apply(
        self, image: torch.Tensor, mask: torch.Tensor, parameters: ByChannel
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Blur channels of the image."""
        for channel, sigmas in parameters:
            values = image[channel]
            for axis in range(values.ndim):
                values = blur_axis(values, sigmas[axis], axis)
            image[channel].copy_(values)
        return image, mask

    def apply_batch(
        self, image: torch.Tensor, mask: torch.Tensor, parameters: Sequence[tuple[int, ByChannel]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Blur channels of the images."""
        planes = Planes.of(parameters)
        values = planes.take(image)
        for axis in range(values.ndim - 1):
            values = _blur_planes(values, [sigmas[axis] for sigmas in planes.values], axis)
        planes.put(image, values)
        return image, mask


def _blur_planes(values: torch.Tensor, sigmas: Sequence[float], axis: int) -> torch.Tensor:
    """:func:`blur_axis` of each of (n, \\*s) with its own width; narrower kernels end in zeros."""
    size = values.shape[axis + 1]
    kernels = [_weights(sigma, min(kernel_radius(sigma), size - 1)) for sigma in sigmas]
    radius = max(map(len, kernels)) - 1
    if radius < 1:
        return values
    table = torch.tensor(np.array([np.pad(one, (0, radius + 1 - len(one))) for one in kernels]), dtype=values.dtype)
    weights = table.to(values.device).view(len(kernels), radius + 1, *[1] * (values.ndim - 1))
    widths = [0, 0] * (values.ndim - 2 - axis) + [radius, radius] + [0, 0] * axis
    padded = pad(values[None], widths, mode="reflect")[0]
    out = padded.narrow(axis + 1, radius, size) * weights[:, 0]
    for shift in range(1, radius + 1):
        both = padded.narrow(axis + 1, radius - shift, size) + padded.narrow(axis + 1, radius + shift, size)
        out.addcmul_(both, weights[:, shift])
    return out

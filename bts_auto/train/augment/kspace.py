"""Artefacts of the scan: ghosts, spikes and motion, made where they arise, in k-space.

References
----------
Shaw, Sudre, Ourselin, Cardoso: MRI k-Space Motion Artefact Augmentation. MIDL 2019. Zhuo, Gullapalli: AAPM/RSNA physics
tutorial for residents: MR artifacts, safety, and quality control. RadioGraphics 26(1), 2006.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from bts_auto.train.augment.base import ByChannel, draw_by_channel, draw_uniform, happens
from bts_auto.train.augment.options import GhostingOptions, MotionOptions, SpikeOptions


@dataclass(frozen=True)
class Ghosts:
    """Axis (counted from the last: 0 is x), number of copies and share of the signal that goes into them."""

    axis: int
    ghosts: int
    strength: float


@dataclass(frozen=True)
class Spike:
    """Direction and frequency (cycles over the patch for each axis), phase, and amplitude in standard deviations."""

    cycles: tuple[float, float, float]
    phase: float
    strength: float


@dataclass(frozen=True)
class Move:
    """Axis of the phase encoding (from the last), shift in voxels for (z, y, x), and the share acquired after it."""

    axis: int
    shift: tuple[float, float, float]
    share: float


class Ghosting:
    """Weaken every n-th line of k-space along an axis: the head appears n times, faintly but for the first."""

    def __init__(self, options: GhostingOptions) -> None:
        self.options = options

    def draw(self, rng: np.random.Generator, channels: int) -> ByChannel | None:
        """Ghosts per channel."""

        def ghosts() -> Ghosts:
            low, high = self.options.ghosts
            axis, number = int(rng.integers(2)), int(rng.integers(low, high + 1))
            return Ghosts(axis, number, draw_uniform(rng, self.options.strength))

        return draw_by_channel(rng, self.options, channels, ghosts)

    def apply(
        self, image: torch.Tensor, mask: torch.Tensor, parameters: ByChannel
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Change channels in place."""
        for channel, ghosts in parameters:
            axis = image.ndim - 2 - ghosts.axis
            n = image.shape[axis + 1]
            lines = torch.fft.fftfreq(n, 1 / n, device=image.device).round()
            keep = torch.where(lines % ghosts.ghosts == 0, 1.0, 1.0 - ghosts.strength)
            keep[0] = 1.0  # the mean
            spectrum = torch.fft.fft(image[channel], dim=axis)
            spectrum *= keep.view([-1 if other == axis else 1 for other in range(image.ndim - 1)])
            image[channel].copy_(torch.fft.ifft(spectrum, dim=axis).real)
        return image, mask


class SpikeNoise:
    """Add the plane wave that one bad sample of k-space stands for."""

    def __init__(self, options: SpikeOptions) -> None:
        self.options = options

    def draw(self, rng: np.random.Generator, channels: int) -> ByChannel | None:
        """A wave per channel."""

        def spike() -> Spike:
            z, y, x = (float(rng.integers(4, 33) * (1 if happens(rng, 0.5) else -1)) for _ in range(3))
            return Spike((z, y, x), draw_uniform(rng, (0, 2 * math.pi)), draw_uniform(rng, self.options.strength))

        return draw_by_channel(rng, self.options, channels, spike)

    def apply(
        self, image: torch.Tensor, mask: torch.Tensor, parameters: ByChannel
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Change channels in place."""
        for channel, spike in parameters:
            values = image[channel]
            phase = torch.full([1] * values.ndim, spike.phase, device=image.device)
            for axis, cycles in enumerate(spike.cycles[-values.ndim :]):
                n = values.shape[axis]
                turns = torch.arange(n, dtype=torch.float32, device=image.device) * (2 * math.pi * cycles / n)
                phase = phase + turns.view([-1 if other == axis else 1 for other in range(values.ndim)])
            values.addcmul_(phase.cos(), values.std() * spike.strength * math.sqrt(2))
        return image, mask


class Motion:
    """Take the outer part of k-space on one side from a shifted head."""

    def __init__(self, options: MotionOptions) -> None:
        self.options = options

    def draw(self, rng: np.random.Generator, channels: int) -> ByChannel | None:
        """A movement per channel."""

        def move() -> Move:
            axis = int(rng.integers(2))
            z, y, x = (draw_uniform(rng, self.options.shift) * (1 if happens(rng, 0.5) else -1) for _ in range(3))
            return Move(axis, (z, y, x), draw_uniform(rng, self.options.share))

        return draw_by_channel(rng, self.options, channels, move)

    def apply(
        self, image: torch.Tensor, mask: torch.Tensor, parameters: ByChannel
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Change channels in place; a shift is a phase ramp in k-space."""
        for channel, move in parameters:
            values = image[channel]
            spectrum = torch.fft.fftn(values)
            ramp = torch.zeros([1] * values.ndim, device=image.device)
            for axis, shift in enumerate(move.shift[-values.ndim :]):
                frequencies = torch.fft.fftfreq(values.shape[axis], device=image.device) * (2 * math.pi * shift)
                ramp = ramp - frequencies.view([-1 if other == axis else 1 for other in range(values.ndim)])
            axis = values.ndim - 1 - move.axis
            n = values.shape[axis]
            place = (torch.fft.fftfreq(n, device=image.device) + 0.5).view(
                [-1 if other == axis else 1 for other in range(values.ndim)]
            )
            late = place >= 1 - move.share  # lines are acquired from one end of k-space to the other
            spectrum *= torch.where(late, torch.polar(torch.ones_like(ramp), ramp), torch.ones_like(ramp) + 0j)
            values.copy_(torch.fft.ifftn(spectrum).real)
        return image, mask

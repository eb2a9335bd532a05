"""Rotation, scaling and elastic deformation of a patch, in one interpolation.

A position o of the patch, measured from its centre in voxels, is read at ``A (o + u(o))`` from the same centre: A is a
rotation times a scale, u a smooth displacement. Only the bounding box of these positions has to be read from the case.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bts_auto.train.augment.base import Surroundings, draw_seed, draw_uniform, happens
from bts_auto.train.augment.fields import smooth_noise
from bts_auto.train.augment.options import SpatialOptions
from bts_auto.train.augment.warp import Positions, resample, warp

_DIMS = 3


@dataclass(frozen=True)
class Elastic:
    """A random displacement: normal numbers on control points, interpolated by cubic B-splines.

    `spacing` is the distance of control points as a share of the patch, `magnitude` the largest displacement as a share
    of that distance (below about 0.4 the deformation does not fold).
    """

    spacing: float
    magnitude: float
    seed: int


@dataclass(frozen=True)
class SpatialParameters:
    """Angles (radians) and scales for axes (z, y, x); 2D uses the last two scales and the last angle."""

    angles: tuple[float, float, float]
    scales: tuple[float, float, float]
    elastic: Elastic | None = None


def rotation_matrix(angles: tuple[float, float, float]) -> np.ndarray:
    """R_x R_y R_z for angles about the axes (z, y, x), acting on columns (z, y, x); shape (3, 3).

    The axis order and signs are nnU-Net's: the first angle turns about the first axis and is applied first.
    """
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        turn = np.eye(3)
        turn[[i, j], [i, j]] = math.cos(angle)
        turn[i, j], turn[j, i] = -math.sin(angle), math.sin(angle)
        matrix = turn @ matrix
    return matrix


def _per_axis(rng: np.random.Generator, bounds: tuple[float, float], same: bool) -> tuple[float, float, float]:
    first = draw_uniform(rng, bounds)
    return (first, first, first) if same else (first, draw_uniform(rng, bounds), draw_uniform(rng, bounds))


class Spatial:
    """The transform; `patch_size` has 2 or 3 axes, of which ``in_plane`` leaves the first alone."""

    def __init__(self, options: SpatialOptions, patch_size: tuple[int, ...]) -> None:
        self.options = options
        self.patch_size = patch_size
        self.flat_axes = 1 if options.in_plane and len(patch_size) == _DIMS else 0
        self.warped_size = patch_size[self.flat_axes :]

    @classmethod
    def build(cls, options: SpatialOptions, around: Surroundings) -> Spatial:
        """Of what is around a sample it needs the patch's size."""
        return cls(options, around.patch_size)

    def draw(self, rng: np.random.Generator, channels: int) -> SpatialParameters | None:
        """Angles, scales and the deformation; None: the patch is read as it lies."""
        options = self.options
        rotate = happens(rng, options.probability_rotation)
        scale = happens(rng, options.probability_scaling)
        bend = happens(rng, options.probability_elastic)
        angles = _per_axis(rng, options.rotation, False) if rotate else (0.0, 0.0, 0.0)
        scales = _per_axis(rng, options.scaling, options.isotropic) if scale else (1.0, 1.0, 1.0)
        elastic = None
        if bend:
            spacing = draw_uniform(rng, options.elastic_spacing)
            elastic = Elastic(spacing, draw_uniform(rng, options.elastic_magnitude), draw_seed(rng))
        return SpatialParameters(angles, scales, elastic) if rotate or scale or bend else None

    def matrix(self, parameters: SpatialParameters) -> np.ndarray:
        """A for the warped axes, shape (d, d)."""
        if len(self.warped_size) == _DIMS:
            return rotation_matrix(parameters.angles) @ np.diag(parameters.scales)
        cos, sin = math.cos(parameters.angles[-1]), math.sin(parameters.angles[-1])
        return np.array([[cos, -sin], [sin, cos]]) @ np.diag(parameters.scales[1:])

    def box(self, parameters: SpatialParameters) -> list[tuple[int, int]]:
        """What has to be read, relative to the patch's lower corner: (first, last + 1) for each axis of the patch."""
        centre = (np.array(self.warped_size) - 1) / 2
        reach = centre + self._largest_shift(parameters.elastic)
        extent = np.abs(self.matrix(parameters)) @ reach
        low, high = np.floor(centre - extent).astype(int), np.floor(centre + extent).astype(int) + 2
        flat = [(0, size) for size in self.patch_size[: self.flat_axes]]
        return flat + [(int(a), int(b)) for a, b in zip(low, high, strict=True)]

    def apply(
        self, image: torch.Tensor, mask: torch.Tensor, parameters: SpatialParameters, offset: tuple[int, ...]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Read the patch from a box of which `offset` is the lower corner relative to the patch's."""
        if not self.flat_axes:
            return warp(image, mask, self._positions(parameters, offset, image.device), self.patch_size)
        # Slices are further channels of a 2D image.
        slices = (image.flatten(0, 1), mask.flatten(0, 1))
        image, mask = warp(*slices, self._positions(parameters, offset[1:], image.device), self.warped_size)
        return image.unflatten(0, (-1, self.patch_size[0])), mask.unflatten(0, (-1, self.patch_size[0]))

    def apply_batch(
        self,
        images: Sequence[torch.Tensor],
        masks: Sequence[torch.Tensor],
        parameters: Sequence[SpatialParameters],
        offsets: Sequence[tuple[int, ...]],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """:meth:`apply` of several samples, whose boxes differ in size; all images are interpolated in one call.

        Returns
        -------
        image, mask : Tensor, shapes (n, c, \\*patch_size) and (n, m, \\*patch_size)
        """
        flat = self.flat_axes
        positions = [
            self._positions(drawn, offset[flat:], image.device)
            for drawn, offset, image in zip(parameters, offsets, images, strict=True)
        ]
        planes = [image.flatten(0, 1) if flat else image for image in images]
        image = resample(planes, positions, self.warped_size)
        if flat:
            image = image.unflatten(1, (-1, self.patch_size[0]))
        warped = []
        for mask, at in zip(masks, positions, strict=True):
            slices = mask.flatten(0, 1) if flat else mask
            one = warp(image.new_empty((0, *slices.shape[1:])), slices, at, self.warped_size)[1]
            warped.append(one.unflatten(0, (-1, self.patch_size[0])) if flat else one)
        return image, torch.stack(warped)

    def _positions(self, parameters: SpatialParameters, offset: tuple[int, ...], device: torch.device) -> Positions:
        centre = (np.array(self.warped_size) - 1) / 2
        matrix = self.matrix(parameters)
        start = centre - np.array(offset)
        dims = len(centre)
        shift = None if parameters.elastic is None else self._displacement(parameters.elastic).to(device)

        def coordinate(axis: int, first: int, last: int) -> torch.Tensor:
            along = torch.arange(first, last, dtype=torch.float32, device=device) - float(centre[axis])
            return along.view([-1 if other == axis else 1 for other in range(dims)])

        def source(axis: int, at: list[torch.Tensor]) -> torch.Tensor:
            position = at[0] * float(matrix[axis, 0]) + float(start[axis])
            for other in range(1, dims):
                position = position + at[other] * float(matrix[axis, other])
            return position

        def positions(first: int, last: int) -> list[torch.Tensor]:
            at = [coordinate(0, first, last)] + [coordinate(k, 0, self.warped_size[k]) for k in range(1, dims)]
            if shift is not None:
                at = [one + shift[axis, first:last] for axis, one in enumerate(at)]
            return [source(axis, at) for axis in range(dims)]

        return positions

    def _control_spacing(self, elastic: Elastic) -> float:
        """Distance of control points in voxels: the same for all axes, so that thin patches are not folded."""
        return max(2.0, elastic.spacing * max(self.warped_size))

    def _largest_shift(self, elastic: Elastic | None) -> float:
        return 0.0 if elastic is None else elastic.magnitude * self._control_spacing(elastic)

    def _displacement(self, elastic: Elastic) -> torch.Tensor:
        """u in voxels, shape (d, \\*warped_size), at most as long along each axis as said."""
        spacing = (self._control_spacing(elastic),) * len(self.warped_size)
        field = smooth_noise(self.warped_size, spacing, len(self.warped_size), elastic.seed)
        return field * self._largest_shift(elastic)

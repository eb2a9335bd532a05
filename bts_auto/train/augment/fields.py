"""Smooth fields over a patch: cubic B-splines of random control points, and hills."""

from __future__ import annotations

import numpy as np
import torch


def _bspline_basis(size: int, spacing: float) -> torch.Tensor:
    """Weights of uniform cubic B-splines for voxels 0..size-1; shape (size, control points), rows sum to 1."""
    place = np.arange(size) / spacing
    first = np.floor(place).astype(int)
    t = place - first
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], 1) / 6
    basis = np.zeros((size, first[-1] + 4), dtype=np.float32)
    np.put_along_axis(basis, first[:, None] + np.arange(4), weights, 1)
    return torch.from_numpy(basis)


def smooth_noise(size: tuple[int, ...], spacing: tuple[float, ...], count: int, seed: int) -> torch.Tensor:
    """Random smooth fields, each scaled to a largest absolute value of 1.

    Parameters
    ----------
    size : tuple of int
        Spatial shape.
    spacing : tuple of float
        Distance of control points along each axis, in voxels.
    count : int
        How many fields.
    seed : int
        Of the normal numbers at the control points.

    Returns
    -------
    Tensor of float32, shape (count, \\*size), on the CPU
    """
    bases = [_bspline_basis(n, step) for n, step in zip(size, spacing, strict=True)]
    control = np.random.default_rng(seed).standard_normal((count, *(basis.shape[1] for basis in bases)))
    field = torch.from_numpy(control.astype(np.float32))
    for basis in bases:  # each contracts the first spatial axis and appends the interpolated one
        field = torch.tensordot(field, basis, dims=([1], [1]))
    largest = field.abs().amax(dim=tuple(range(1, field.ndim)), keepdim=True).clamp_(min=1e-8)
    return field / largest


def hill(size: tuple[int, ...], centre: tuple[float, ...], width: float, device: torch.device) -> torch.Tensor:
    """A Gaussian with peak 1, shape `size`; `centre` and `width` (standard deviation) are shares of the edges."""
    out = torch.ones([1] * len(size), device=device)
    for axis, n in enumerate(size):
        place = (torch.arange(n, dtype=torch.float32, device=device) + 0.5) / n
        profile = torch.exp(-0.5 * ((place - centre[axis]) / width) ** 2)
        out = out * profile.view([-1 if other == axis else 1 for other in range(len(size))])
    return out
